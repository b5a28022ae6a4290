"""All that a broker listens at: its own address, behind haproxy, for first seeds; the agent."""

from __future__ import annotations

from typing import Callable

from entropy.broker.agent import Agent
from entropy.config import BrokerConfig
from entropy.transport.listener import Handler, Server, serve
from entropy.transport.pace import HandshakePace
from entropy.transport.tls import server_context


class Ports:
    """Open after `start`. Each listener has limits of its own.

    addresses, seeds_addresses, agent_addresses: the endpoints, with their real ports.
    certificate_sha256: of the certificate that is shown there, 32 bytes; empty before `start`.
    """

    def __init__(
        self,
        config: BrokerConfig,
        handler: Handler,
        seeds_handler: Handler,
        agent_line: Callable[[], str],
    ) -> None:
        self._config = config
        self._handler = handler
        self._seeds_handler = seeds_handler
        self._agent = Agent(config.agent.listen, config.agent.balancers, agent_line)
        self._servers: list[Server] = []
        self.addresses: list[str] = []
        self.seeds_addresses: list[str] = []
        self.certificate_sha256 = b""
        self.pace: HandshakePace

    async def start(self) -> None:
        """Raises ConfigError, CredentialError or TransportError; `stop` is due then, too."""
        config, limits = self._config, self._config.limits
        context = server_context(config.certificate, config.key)
        self.certificate_sha256 = context.certificate_sha256
        self.pace = HandshakePace()
        open_ports = (
            (config.listen, context, self._handler, None),
            (config.proxy.listen, context, self._handler, config.proxy.balancers),
            (config.seeds.listen, None, self._seeds_handler, None),
        )
        for endpoints, its_context, handler, balancers in open_ports:
            for endpoint in endpoints:
                server = await serve(
                    endpoint,
                    its_context,
                    handler,
                    proxy_from=balancers,
                    pace=self.pace,
                    max_connections=limits.max_connections,
                    max_connections_per_address=limits.max_connections_per_address,
                )
                self._servers.append(server)
                (self.addresses if its_context else self.seeds_addresses).extend(server.addresses)
        await self._agent.start()

    def close(self) -> None:
        """Listen no more, and cancel the handlers of all connections."""
        for server in self._servers:
            server.close()

    def cut_all(self) -> None:
        """Cancel the handlers of all connections, and go on listening."""
        for server in self._servers:
            server.cut_all()

    async def wait_closed(self) -> None:
        for server in self._servers:
            await server.wait_closed()
        await self._agent.stop()

    @property
    def agent_addresses(self) -> list[str]:
        return self._agent.addresses

    @property
    def over_limit(self) -> int:
        """Connections that a limit turned away."""
        return sum(server.over_limit for server in self._servers)

    @property
    def failed_handshakes(self) -> int:
        return sum(server.failed_handshakes for server in self._servers)

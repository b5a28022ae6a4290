"""Everything that a broker's configuration names, read and compared before anything is opened."""

from __future__ import annotations

import ssl
from typing import Any

from entropy.broker.access import Access
from entropy.broker.peer import load_peer_credential
from entropy.config import BrokerConfig
from entropy.errors import CredentialError
from entropy.transport.tls import client_context, server_context
from entropy.wire.codes import certificate_name


def check(config: BrokerConfig) -> None:
    """Raise what a start would: ConfigError or CredentialError that names the file.

    Reads the access list, the certificate with its key, the fleet's authority, and the
    credentials for the peers. Binds and changes nothing.
    """
    Access(config.acl, config.site_id, bytes)
    _check_certificate(config)
    for peer in config.peers:
        load_peer_credential(peer.credential, config.site_id)


def _check_certificate(config: BrokerConfig) -> None:
    """Shake hands with ourselves in memory: it takes the same path as a client's connection."""
    ours = server_context(config.certificate, config.key)
    # A wrong clock must not keep a broker from starting; clients judge the dates.
    theirs = client_context(config.ca, check_dates=False)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = theirs.wrap_bio(to_client, to_server)
    server = ours.wrap_bio(to_server, to_client, server_side=True)
    try:
        for end in (client, server, client):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    except ssl.SSLError as error:
        raise CredentialError(
            f"{config.certificate}: was not issued by the authority in {config.ca}"
            f" ({getattr(error, 'verify_message', error.reason)})"
        ) from None
    shown: Any = client.getpeercert()
    names = [value for kind, value in shown.get("subjectAltName", ()) if kind == "DNS"]
    wanted = certificate_name(config.id, config.site_id)
    if wanted not in names:
        raise CredentialError(
            f"{config.certificate}: is for {', '.join(names) or 'no name'},"
            f" not for {wanted}: issue it anew for this broker"
        )

"""The fleet of `entropy demo`: its authority, credentials and files in one temporary folder."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path

from entropy.authority import issue_broker, new_authority
from entropy.config import (
    AdminConfig,
    BrokerConfig,
    ClientConfig,
    FeederConfig,
    LimitsConfig,
    ReservoirConfig,
    SourceConfig,
)
from entropy.credentials import acl_entry, dump_credential, entry_as_json, new_credential
from entropy.errors import EntropyError
from entropy.sources.base import Figures, Source, StatedFigures
from entropy.sources.uri import source_for

SITE_ID = "demo"
CAPACITY_BLOCKS = 32
FEED_BITS_PER_SECOND = 16 * 512  # so that there is something to see with any source
PROBE_BYTES = 512
PROBE_SECONDS = 1.5
STATED_CREDIT_BITS_PER_BYTE = 1.0


class DemoFleet:
    """Writes all files below `folder` (which is private to this user)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        authority = new_authority(SITE_ID)
        broker = issue_broker(authority, "broker", SITE_ID)
        self._write("ca.pem", authority.certificate_pem)
        self._write("tls.pem", broker.certificate_pem)
        self._write("tls.key", broker.key_pem)
        entries = []
        for name, permission in (("feeder", "feed"), ("client", "draw")):
            credential = new_credential(name, SITE_ID, [permission])
            self._write(f"{name}.json", dump_credential(credential).encode())
            entries.append(entry_as_json(acl_entry(credential)))
        acl = {"version": 1, "site_id": SITE_ID, "generation": 1, "entries": entries}
        self._write("acl.json", json.dumps(acl).encode())
        (folder / "state").mkdir()

    def broker(self) -> BrokerConfig:
        return BrokerConfig(
            id="broker",
            site_id=SITE_ID,
            listen=("127.0.0.1:0",),
            acl=self._path("acl.json"),
            certificate=self._path("tls.pem"),
            key=self._path("tls.key"),
            ca=self._path("ca.pem"),
            control_socket=self._path("control.sock"),
            state_dir=self._path("state"),
            reservoir=ReservoirConfig(CAPACITY_BLOCKS, 0, CAPACITY_BLOCKS),
            limits=LimitsConfig(credit_bits_per_second=FEED_BITS_PER_SECOND),
            admin=AdminConfig(""),
        )

    def feeder(self, source: SourceConfig, endpoint: str) -> FeederConfig:
        return FeederConfig(
            site_id=SITE_ID,
            credential=self._path("feeder.json"),
            ca=self._path("ca.pem"),
            brokers=(endpoint,),
            source=source,
            max_pending_blocks=4,
        )

    def client(self, endpoint: str) -> ClientConfig:
        """Credits the kernel with nothing: what a demonstration makes is not for keys."""
        return ClientConfig(
            site_id=SITE_ID,
            credential=self._path("client.json"),
            ca=self._path("ca.pem"),
            brokers=(endpoint,),
            state_dir=self._path("state"),
            credit=False,
        )

    def _path(self, name: str) -> str:
        return str(self._folder / name)

    def _write(self, name: str, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with open(os.open(self._path(name), flags, 0o600), "wb") as file:
            file.write(data)


class CountedSource(Source):
    """Another source, and how much was read of it."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.uri, StatedFigures())
        self._source = source
        self.n_bytes = 0

    def own_figures(self) -> Figures:
        return self._source.figures

    def open(self) -> None:
        self._source.open()

    def read(self, n_bytes: int) -> bytes:
        samples = self._source.read(n_bytes)
        self.n_bytes += len(samples)
        return samples

    def close(self) -> None:
        self._source.close()


def best_source() -> SourceConfig:
    """The best source of noise that this user can read on this machine, and how to count it."""
    for uri in ("hwrng:/dev/hwrng", "jitter:"):
        source = source_for(uri)
        figures = source.figures
        if _delivers(source):
            if figures.credit_bits_per_byte:
                return SourceConfig(uri)
            return SourceConfig(
                uri,
                credit_bits_per_byte=STATED_CREDIT_BITS_PER_BYTE,
                reason=f"for this demo only, since by default it counts nothing ({figures.reason})",
            )
    return SourceConfig("kernel:", lab_only_credit_kernel=True)


def _delivers(source: Source) -> bool:
    """Whether it gives some samples in a moment. A daemon thread, for it may never return."""
    delivered = threading.Event()

    def probe() -> None:
        left_bytes = PROBE_BYTES
        with contextlib.suppress(EntropyError):
            source.open()
            while left_bytes > 0:
                left_bytes -= len(source.read(left_bytes))
            delivered.set()
        source.close()

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return delivered.is_set()

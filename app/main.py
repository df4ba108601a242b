"""The machine: a role's Faust app, its agents attached in stream order."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Final
from zlib import crc32

from agents.rooms import Archive, ReadModel, Rooms
from app.kafka import bootstrap, security_of
from app.roles import AGENTS
from app.settings import Role, Settings
from app.telemetry import Telemetry
from core.decide.attic import Attic
from core.definitions import Catalogue
from core.ingest import sources_of
from schemas.topics import TOPICS
from transport.app import RoleApp, make_app
from transport.options import Options
from transport.segments import Segments
from transport.wires import KafkaWires

if TYPE_CHECKING:
    from app.clients.outside import Clients


@dataclass(slots=True)
class Machine:
    """One role, put together and not yet started."""

    app: RoleApp
    wires: KafkaWires
    rooms: Rooms
    telemetry: Telemetry
    clients: Clients | None

    async def start(self) -> None:
        """Joins the group and begins to work."""
        await self.app.start()

    async def stop(self) -> None:
        """Ends the work in the air, writes the last checkpoints, leaves the group."""
        for close in self.rooms.closers:
            await close()
        await self.app.stop()
        if self.clients is not None:
            await self.clients.close()


def build_app(
    settings: Settings,
    role: Role,
    *,
    catalogue: Catalogue | None = None,
    telemetry: Telemetry | None = None,
    slot: int = 0,
) -> Machine:
    """A role's app with its agents. Call on the event loop that will run it. Raises `NoKafka` where no cluster is known.

    `catalogue` must have been read to its end (`app.definitions.Definitions.start`) before `Machine.start`.
    `slot` tells processes of a role on one machine apart.
    """
    telemetry = telemetry if telemetry is not None else Telemetry()
    catalogue = catalogue if catalogue is not None else Catalogue()
    options = make_options(settings, role, slot, frozenset(sources_of(catalogue)))
    app = make_app(options, telemetry)
    wires = KafkaWires(app, options, telemetry)
    clients = _clients(settings) if role == "deliver" else None
    rooms = Rooms(
        wires=wires,
        catalogue=catalogue,
        partitions=settings.partitions,
        strict=settings.strict,
        read_model=_read_model(settings) if role == "project" else None,
        outside=clients,
        attic=_attic(settings) if role == "decide" else None,
        archive=_archive(settings) if role == "archive" else None,
    )
    for name in AGENTS[role]:
        if settings.rebuilding and name == "ingest":
            continue  # what it makes are events, and those are made already
        import_module(f"agents.{name}").attach(app, rooms)
    return Machine(app, wires, rooms, telemetry, clients)


def _clients(settings: Settings) -> Clients:
    from app.clients.outside import Clients

    return Clients.from_settings(settings)


def _read_model(settings: Settings) -> ReadModel:
    from app.store import Writer

    return Writer(settings.store_url, settings.figures)


def _attic(settings: Settings) -> Attic:
    """Its files have no name: whatever ends this process, they are gone."""
    place = settings.run_dir / "waiting"

    def new_file() -> IO[bytes]:
        place.mkdir(parents=True, exist_ok=True)
        return TemporaryFile(dir=place)

    return Attic(settings.decide_waiting_mb << 20, Segments(new_file))


def _archive(settings: Settings) -> Archive:
    from app.archive import Writer

    return Writer(settings)


LINGER_MS: Final[Mapping[Role, int]] = {"meter": 10, "archive": 250}
"""Who reads single events, and whom nobody waits for. The others read what METER made of the events."""


def make_options(settings: Settings, role: Role, slot: int = 0, foreign: frozenset[str] = frozenset()) -> Options:
    """How a role is connected."""
    return Options(
        bootstrap=bootstrap(settings),
        role=role,
        data_dir=settings.run_dir / "faust",
        phases=settings.run_dir / "phases" / f"{role}-{slot}",
        prefix=settings.topic_prefix,
        foreign=foreign,
        renamed=settings.renamed,
        aside=f".v{settings.figures}" if settings.rebuilding else "",
        partitions=settings.partitions,
        # One fetch is in flight per broker, and a fetch of idle partitions makes busy ones wait: short where latency counts.
        fetch_max_wait_ms=10 if role in ("meter", "decide", "orchestrate") else 50,
        fetch_linger_ms=LINGER_MS.get(role, 0),
        checkpoint_gap_ms=10,
        on_poison=settings.on_poison,
        security=security_of(settings),
        # A restart within the session timeout takes its partitions up again without a rebalance. So does, to Kafka, a
        # member that subscribes to other topics than before, which would then be nobody's: hence their fingerprint.
        instance_id=f"{node_name(settings)}-{role}-{slot}-{_fingerprint(settings, foreign)}",
    )


def _fingerprint(settings: Settings, foreign: frozenset[str]) -> str:
    names = [settings.renamed.get(t.name, t.name) for t in TOPICS]
    return f"{crc32(' '.join([*names, *sorted(foreign)]).encode()):08x}"


def node_name(settings: Settings) -> str:
    """A name for this data directory on this machine, the same after a restart."""
    path = settings.data_dir / "node"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{socket.gethostname()[:40]}-{secrets.token_hex(4)}")
    return path.read_text().strip()

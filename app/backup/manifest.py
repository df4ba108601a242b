"""What a backup is: a list of files with their checksums, and the moment that they are to be read as. Written last."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from app.backup.place import MANIFESTS, Place, PlaceError

FORMAT = 1
"""Of manifests and of the files they name."""


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Segment(_Closed):
    """One file: rows of one topic, in offset order within each partition."""

    name: str
    sha256: str
    size: int
    """Bytes of the file."""
    rows: int


class Copy(_Closed):
    """One topic's rows, as far as they were copied: the segments of this backup and of those before it."""

    partitions: int
    segments: list[Segment] = []
    next: dict[int, int] = {}
    """By partition, the offset behind the last one copied."""
    newest: dict[int, int] = {}
    """By partition, the youngest broker time copied, milliseconds."""

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(segment.rows for segment in self.segments)


class Stand(_Closed):
    """Where one task stood at the cut."""

    number: int
    """Of its checkpoint: what later ones wrote is not part of the cut."""
    next: dict[str, int]
    """Next offset of each of its topics, as offsets were then."""


class State(_Closed):
    """One state topic at the cut."""

    ends: dict[int, int] = {}
    """By partition, the offset behind the last whole checkpoint."""
    tasks: dict[str, Stand] = {}
    """By `role|group|partition`."""


class Table(_Closed):
    """One table of the read model."""

    parts: list[Segment]


class Manifest(_Closed):
    """A whole backup. It names everything it needs, files of earlier backups among it."""

    format: int = FORMAT
    id: str
    """Sorts by time."""
    parent: str | None
    """The backup whose files it goes on from; None: it copied everything itself."""
    began: int
    at: int
    """The cut: what was committed before it is in the backup. Milliseconds."""
    finished: int
    prefix: str
    partitions: int
    cluster: str
    topics: dict[str, Copy]
    """Ours, without prefix."""
    sources: dict[str, Copy]
    """Topics of others that sources read, from where we had not read them."""
    states: dict[str, State]
    """By state topic."""
    model: dict[str, Table]
    model_version: int
    written: int
    """Bytes that this backup itself put there."""

    @property
    def rows(self) -> int:
        """Rows of all topics."""
        return sum(copy.rows for copy in (*self.topics.values(), *self.sources.values()))

    @property
    def tasks(self) -> dict[str, Stand]:
        """Every task, by `role|group|partition`."""
        return {task: stand for state in self.states.values() for task, stand in state.tasks.items()}

    @property
    def files(self) -> list[Segment]:
        """Every file it needs."""
        logs = [s for copy in (*self.topics.values(), *self.sources.values()) for s in copy.segments]
        return logs + [part for table in self.model.values() for part in table.parts]


def name_of(at: int) -> str:
    """The id of a backup that begins now."""
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y%m%dT%H%M%S.%f")[:-3] + "Z"


async def ids(place: Place) -> list[str]:
    """Every whole backup, oldest first."""
    return [name.removeprefix(MANIFESTS).removesuffix(".json") for name in await place.names(MANIFESTS)]


async def load(place: Place, ident: str | None = None) -> Manifest:
    """A backup by id, or the newest. Raises `PlaceError` where there is none, or one of a newer format."""
    if ident is None:
        known = await ids(place)
        if not known:
            raise PlaceError(f"no backup in {place.url}: make one with `uptake backup --to {place.url}`")
        ident = known[-1]
    text = await place.get(f"{MANIFESTS}{ident}.json")
    try:
        found = _Version.model_validate_json(text).format
        if found == FORMAT:
            return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise PlaceError(f"the manifest of {ident} cannot be read: {str(error).splitlines()[0]}") from error
    raise PlaceError(f"backup {ident} has format {found}, this version reads {FORMAT}: use the version that wrote it")


async def save(place: Place, manifest: Manifest) -> None:
    """Makes the backup a whole one."""
    await place.put(f"{MANIFESTS}{manifest.id}.json", manifest.model_dump_json().encode())


class _Version(BaseModel):
    format: int

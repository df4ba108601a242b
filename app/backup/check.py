"""Is a backup whole, and which files belong to none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from app.backup import manifest as manifests
from app.backup.manifest import Manifest
from app.backup.model import FOLDER
from app.backup.place import MANIFESTS, SEGMENTS, Place, PlaceError
from app.backup.segments import read_frame

GRACE_MS: Final = 86_400_000
"""Files younger than this may be of a backup that is being made."""


async def verify(place: Place, manifest: Manifest, told: Callable[[str], None] = lambda text: None) -> int:
    """Read every file back and compare checksum and rows; how many bytes. Raises `PlaceError` at the first that is wrong."""
    read = 0
    for segment in manifest.files:
        told(segment.name)
        frame = await read_frame(place, segment)
        if len(frame) != segment.rows:
            raise PlaceError(
                f"{segment.name} has {len(frame)} rows instead of {segment.rows}: use an older backup (`uptake backup ls`)"
            )
        read += segment.size
    return read


async def prune(place: Place, keep: int, now: int) -> tuple[int, int]:
    """Drop all but the newest `keep` backups, and the files that none of those needs: (backups, files) that went."""
    known = await manifests.ids(place)
    kept, gone = known[-keep:], known[:-keep]
    needed = {file.name for ident in kept for file in (await manifests.load(place, ident)).files}
    await place.delete([f"{MANIFESTS}{ident}.json" for ident in gone])
    old = now - GRACE_MS
    unused = [
        name for folder in (SEGMENTS, FOLDER) for name in await place.names(folder, before=old) if name not in needed
    ]
    await place.delete(unused)
    return len(gone), len(unused)

"""Where backups lie: a local folder or an object store, by URL. Objects are written whole and never changed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url

MANIFESTS = "manifests/"
SEGMENTS = "segments/"
RESTORES = "restores/"


class PlaceError(RuntimeError):
    """The place cannot be read or written, or what lies there is not what was put there; the message names the next move."""


class Place:
    """One backup place. Every call raises `PlaceError`.

    `url`: `s3://bucket/path`, `gs://…`, `az://…`, `file:///path`, or a plain path. Credentials come from the store's own
    environment variables (`AWS_ACCESS_KEY_ID`, `GOOGLE_APPLICATION_CREDENTIALS` …), never from the URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            if "://" in url and not url.startswith("file://"):
                self._store = from_url(url)
            else:
                folder = Path(url.removeprefix("file://"))
                folder.mkdir(parents=True, exist_ok=True)
                self._store = LocalStore(str(folder))
        except (BaseError, OSError, ValueError) as error:
            raise PlaceError(
                f"{url} is no place for backups: {_first_line(error)}; name a folder, or s3://bucket/path, gs://…, az://…"
            ) from error

    async def put(self, name: str, content: bytes) -> None:
        """A new object; one of that name that is there already stays, and is an error."""
        try:
            await obstore.put_async(self._store, name, content, mode="create")
        except AlreadyExistsError as error:
            raise PlaceError(
                f"{name} is there already in {self.url}: two backups at once? Run one at a time"
            ) from error
        except (BaseError, OSError) as error:
            raise PlaceError(f"cannot write {name} to {self.url}: {_first_line(error)}") from error

    async def replace(self, name: str, content: bytes) -> None:
        """An object, whatever stands there."""
        try:
            await obstore.put_async(self._store, name, content)
        except (BaseError, OSError) as error:
            raise PlaceError(f"cannot write {name} to {self.url}: {_first_line(error)}") from error

    async def get(self, name: str, sha256: str | None = None) -> bytes:
        """An object, compared with its checksum where one is given."""
        try:
            content = bytes(await (await obstore.get_async(self._store, name)).bytes_async())
        except (BaseError, OSError) as error:
            raise PlaceError(
                f"cannot read {name} from {self.url}: {_first_line(error)}; `uptake backup verify`"
            ) from error
        if sha256 is not None and checksum(content) != sha256:
            raise PlaceError(f"{name} in {self.url} is damaged (checksum): use an older backup (`uptake backup ls`)")
        return content

    async def has(self, name: str) -> bool:
        """Whether an object is there."""
        try:
            await obstore.head_async(self._store, name)
        except FileNotFoundError:
            return False
        except (BaseError, OSError) as error:
            raise PlaceError(f"cannot read {name} from {self.url}: {_first_line(error)}") from error
        return True

    async def names(self, prefix: str, *, before: int | None = None) -> list[str]:
        """Names of the objects under a prefix, sorted; only those last written before a time (milliseconds), if given."""
        written = await self.written(prefix)
        return sorted(name for name, at in written.items() if before is None or at < before)

    async def written(self, prefix: str) -> dict[str, float]:
        """Objects under a prefix → when each was last written, milliseconds."""
        try:
            return {
                meta["path"]: meta["last_modified"].timestamp() * 1000
                async for page in obstore.list(self._store, prefix)
                for meta in page
            }
        except (BaseError, OSError) as error:
            raise PlaceError(f"cannot list {self.url}: {_first_line(error)}") from error

    async def delete(self, names: list[str]) -> None:
        """Objects away."""
        try:
            if names:
                await obstore.delete_async(self._store, names)
        except (BaseError, OSError) as error:
            raise PlaceError(f"objects of {self.url} cannot be deleted: {_first_line(error)}") from error


def checksum(content: bytes) -> str:
    """As the manifest holds it."""
    return hashlib.sha256(content).hexdigest()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

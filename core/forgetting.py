"""Subjects that were forgotten, as the definitions tell: by keyed hash, so that nothing here says who they were."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Final

import msgspec

from core.definitions import Catalogue
from schemas.definitions import Forgotten

_read = msgspec.json.Decoder().decode
DIGEST_BYTES: Final = 16
KINDS: Final = ("user", "contact")
"""Kinds of subjects that are people."""


def digest(salt: str, tenant: str, subject: str) -> str:
    """What a tenant's subject (`kind:id`) is remembered by. `salt` is hexadecimal; without it nobody can guess names."""
    hashed = hashlib.blake2b(f"{tenant}\x1f{subject}".encode(), key=bytes.fromhex(salt), digest_size=DIGEST_BYTES)
    return hashed.hexdigest()


def named(value: bytes | None) -> tuple[str | None, set[str]]:
    """The tenant and the subjects that an event, a CloudEvent, a signal, a command, or what carries a command, is about.
    None and nothing where the bytes are no such thing.
    """
    try:
        parts = list(_parts(_read(value or b"")))
    except (ValueError, RecursionError):  # no JSON, no UTF-8, or nested without end
        return None, set()
    tenant: str | None = None
    subjects: set[str] = set()
    for part in parts:
        if tenant is None and isinstance(found := part.get("tenant"), str):
            tenant = found
        if isinstance(found := part.get("subject"), str):
            subjects.add(found)
        if isinstance(found := part.get("names"), list):  # of a run: what it was about before
            subjects |= {name for name in found if isinstance(name, str)}
        subjects |= {f"{kind}:{name}" for kind in KINDS if isinstance(name := part.get(kind), str)}
        if isinstance(former := part.get("former"), str):  # of an alias
            subjects |= {f"{kind}:{former}" for kind in KINDS}
    return tenant, subjects


def _parts(row: object) -> Iterator[dict[str, object]]:
    """The object, and those in it that carry what it is about: a CloudEvent's data, a signal's event, a delivery's command."""
    if isinstance(row, dict):
        yield row
        for name in ("data", "command"):
            yield from _parts(row.get(name))


class Forgetting:
    """Whether a subject is to be forgotten. Costs nothing while nobody is, and a hash a question afterwards."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._seen = -1
        self._salts: dict[str, dict[str, frozenset[str]]] = {}
        """Tenant → salt → digests."""
        self._version = 0

    @property
    def version(self) -> int:
        """Grows when another subject is to be forgotten; 0: nobody is."""
        self._refresh()
        return self._version

    @property
    def tenants(self) -> list[str]:
        """Tenants some of whose subjects are to be forgotten."""
        self._refresh()
        return sorted(self._salts)

    @property
    def digests(self) -> frozenset[str]:
        """All of them, as `tenant|digest`: what a place that has dropped them remembers."""
        self._refresh()
        return frozenset(
            f"{t}|{name}" for t, salts in self._salts.items() for names in salts.values() for name in names
        )

    def still(self) -> Forgetting:
        """Those of now, whatever becomes of the catalogue: for another thread."""
        catalogue = Catalogue()
        for record in self._catalogue.of(Forgotten):
            catalogue.put(record)
        return Forgetting(catalogue)

    def holds(self, tenant: str, subject: str) -> bool:
        """Whether this subject is to be forgotten."""
        self._refresh()
        salts = self._salts.get(tenant)
        return salts is not None and any(digest(salt, tenant, subject) in found for salt, found in salts.items())

    def holds_key(self, key: bytes | None) -> bool:
        """Whether a Kafka key, `tenant|user` or `tenant|kind:id`, is that of a subject to be forgotten."""
        if key is None or not self.version:
            return False
        tenant, _, rest = key.decode(errors="replace").partition("|")
        if tenant not in self._salts:
            return False
        return self.holds(tenant, rest) or any(self.holds(tenant, f"{kind}:{rest}") for kind in KINDS)

    def concerns(self, key: bytes | None, value: bytes | None) -> bool:
        """Whether a record is about a subject to be forgotten: by its key, or by whom its JSON names (`named`)."""
        if not self.version:
            return False
        if self.holds_key(key):
            return True
        tenant, subjects = named(value)
        if tenant is None and key is not None:
            tenant = key.decode(errors="replace").partition("|")[0]
        return tenant in self._salts and any(self.holds(tenant, subject) for subject in subjects)

    def _refresh(self) -> None:
        if self._seen == self._catalogue.generation:
            return
        self._seen = self._catalogue.generation
        salts: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for record in self._catalogue.of(Forgotten):
            salts[record.tenant][record.salt].add(record.name)
        found = {t: {s: frozenset(names) for s, names in by_salt.items()} for t, by_salt in salts.items()}
        if found != self._salts:
            self._salts = found
            self._version += 1

"""Identities: the 64 bits that stand for a row's (tenant, source, id) where the two hot topics look for duplicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any, Final

import numpy as np
import xxhash

from core.batch import Int64s
from core.meter.index import UInt64s
from core.meter.intern import Tenants

SEED: Final = 0x75707461
"""State of one seed is nothing to another."""
_MIX: Final = np.uint64(0xD6E8FEB86659FD93)
_SHIFT: Final = np.uint64(32)
_id = attrgetter("id")


class Identities:
    """Of the rows of one source, whose tenants are numbered by `tenants`."""

    def __init__(self, tenants: Tenants, seed: int) -> None:
        self._tenants, self._seed = tenants, seed
        self._origins: UInt64s = np.zeros(1, np.uint64)
        """By tenant code, the hash that its identities are mixed with."""
        self.nobody = np.uint64(xxhash.xxh3_64_intdigest(b"", seed))
        """The hash of an empty id."""

    def hashes(self, rows: Sequence[Any]) -> UInt64s:
        """Hashes of the ids alone."""
        ids = map(str.encode, map(_id, rows))
        return np.fromiter(map(xxhash.xxh3_64_intdigest, ids, repeat(self._seed)), np.uint64, len(rows))

    def origin(self, tenant: str, source: str) -> int:
        """What the hashes of a tenant's rows from that source are mixed with."""
        return int(xxhash.xxh3_64_intdigest(f"{tenant}\x1f{source}".encode(), self._seed))

    def keys(self, hashes: UInt64s, tenants: Int64s, odd: Mapping[int, int]) -> UInt64s:
        """The identities; never 0. `odd`: origins of rows that name a source."""
        names = self._tenants.names
        if len(self._origins) < len(names):
            fresh = [self.origin(name, "") for name in names[len(self._origins) :]]
            self._origins = np.append(self._origins, np.array(fresh, np.uint64))
        origins = self._origins[tenants]
        if odd:
            origins[list(odd)] = np.array(list(odd.values()), np.uint64)
        keys = (hashes ^ origins) * _MIX
        keys ^= keys >> _SHIFT
        keys[keys == 0] = 1
        return keys

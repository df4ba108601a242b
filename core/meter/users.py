"""Users to dense numbers: a table of 64-bit hashes, asked for a whole column at once.

A dict of a million names is read in three places for each name, all of them far from the processor and one after the other; here the
reads of a column do not wait for each other. Two names with one hash would be one user: among a million, one chance in 37 million.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Final

import numpy as np
import xxhash

from core.batch import Int64s
from core.kernels import index as kernels
from core.meter.index import LOAD, UInt32s, UInt64s, empty_slots
from core.meter.memory import Column

SEED: Final = 0x75736572
"""Of the hashes of names, which are never 0."""
_ONE: Final = np.uint64(1)
_digest = xxhash.xxh3_64_intdigest


class Users:
    """Name → number in order of first sight; number 0 is the empty name, which is nobody."""

    def __init__(self) -> None:
        self.names: list[str] = [""]
        self.drained = 1
        """Names below this number are in the checkpoints."""
        self._column = Column(_hashes([""]))
        """By number; 0: the number has no name any more."""
        self._slots: UInt32s = empty_slots(1)
        self._taken = 1
        """Slots, those of keys that are gone among them."""
        kernels.place(self._keys, self._slots, 1)

    @property
    def _keys(self) -> UInt64s:
        return self._column.array

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: str) -> bool:
        return self.get(name, -1) >= 0

    def get(self, name: str, default: int = 0) -> int:
        """The number of a name that was seen."""
        number = np.empty(1, np.int64)
        kernels.find(_hashes([name]), self._keys, self._slots, number)
        return default if number[0] < 0 else int(number[0])

    def codes(self, names: Sequence[str]) -> Int64s:
        """The numbers of the names; unknown ones are added."""
        return self.numbers(_hashes(names), lambda places: [names[i] for i in places.tolist()])

    def numbers(self, hashes: UInt64s, named: Callable[[Int64s], Iterable[str]]) -> Int64s:
        """The numbers of the names that have these hashes (`SEED`); unknown ones are added. `named`: the names at some places."""
        known = len(self.names)
        self._room(len(hashes))
        numbers = np.empty(len(hashes), np.int64)
        count = kernels.find_or_add(hashes, self._keys, self._slots, known, numbers)
        if count > known:
            fresh = np.flatnonzero(numbers >= known)
            first = np.full(count - known, len(hashes), np.int64)
            np.minimum.at(first, numbers[fresh] - known, fresh)
            self.names += named(first)
            self._taken += count - known
        return numbers

    def extend(self, names: Iterable[str]) -> None:
        """Take names in their order, as they were drained. Each takes a number, also an empty one, which was retired and is nobody's;
        a name that came again after it was retired has its newest number, although the retirement may be told of later.
        """
        fresh = names if isinstance(names, list) else list(names)
        hashes = _hashes(fresh)
        if "" in fresh:
            hashes[[i for i, name in enumerate(fresh) if not name]] = 0
        self._room(len(fresh))
        self._taken += kernels.append(hashes, self._keys, self._slots, len(self.names))
        self.names += fresh

    def nameless(self) -> int:
        """A new number that has no name."""
        self.extend([""])
        return len(self.names) - 1

    def retire(self, number: int) -> None:
        """The number has no name any more; should the name come again, it gets another number."""
        self._keys[number] = 0
        self.names[number] = ""

    def withdraw(self, known: int, gone: set[int]) -> Int64s:
        """Take names from number `known` on out again, as if they had not come; those behind them move down. Old number → new."""
        moved = np.arange(len(self.names))
        at = known
        for number in range(known, len(self.names)):
            if number in gone:
                self._keys[number] = 0
                continue
            if number != at:
                kernels.renumber(self._keys[number], at, self._keys, self._slots)
                self.names[at], moved[number] = self.names[number], at
            at += 1
        del self.names[at:]
        return moved

    def new(self) -> Sequence[str]:
        """Names since the last call."""
        since, self.drained = self.drained, len(self.names)
        return self.names[since:]

    def nbytes(self) -> int:
        """Memory taken beside the names themselves."""
        return self._slots.nbytes + len(self.names) * 16

    def _room(self, more: int) -> None:
        count = len(self.names)
        self._column.fit(count + more)
        if self._taken + more > len(self._slots) * LOAD:
            self._slots = empty_slots(count + more)
            kernels.place(self._keys, self._slots, count)
            self._taken = count


def _hashes(names: Sequence[str]) -> UInt64s:
    """Keyed hashes of the names; never 0."""
    found = np.fromiter(map(_digest, map(str.encode, names), repeat(SEED)), np.uint64, len(names))
    return np.maximum(found, _ONE)

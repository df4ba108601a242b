"""Names that rows share, as helpers: the code of a tenant, a product, a type or a feature, and what led to a use."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.kernels import Integer, helper, inlined
from core.kernels.digest import digest
from core.kernels.fields import NAMED
from core.kernels.hashing import home
from core.kernels.memory import byte, word
from core.kernels.text import COLON

Bytes = npt.NDArray[np.uint8]
Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]

_NONE = np.uint64(0)
_ORGANIC, _CAMPAIGN, _COMMAND = (np.uint64(int.from_bytes(c, "little")) for c in (b"organic", b"campaign", b"command:"))
_SEVEN = np.uint64(0x00FFFFFFFFFFFFFF)


@inlined
def code_of(
    base: Integer,
    at: Integer,
    size: Integer,
    field: Integer,
    keys: UInt64s,
    places: Int64s,
    slots: UInt32s,
    arena: Bytes,
) -> Integer:
    """What the table says of a field's name; -1 where it has not got it."""
    key = digest(base + at, size, np.uint64(field))
    room = np.uint64(len(slots))
    slot = home(key, room)
    code = np.int64(-1)
    while True:
        found = np.int64(slots[slot]) - 1
        if found < 0:
            break
        if keys[found] == key and places[found, 1] == size * NAMED + field:
            start = np.int64(arena.ctypes.data) + places[found, 0]
            same, i = True, 0
            while i + 8 <= size and same:
                same = word(start + i) == word(base + at + i)
                i += 8
            if i < size and same:
                same = (word(start + i) ^ word(base + at + i)) << np.uint64(64 - 8 * (size - i)) == _NONE
            if same:
                code = places[found, 2]
                break
        slot += np.uint64(1)
        if slot == room:
            slot = _NONE
    return code


@helper
def organic(at: Integer, size: Integer) -> Integer:
    """Of an attribution at the address `at`: 1 for `organic`, 0 for a campaign or a command, -1 for anything else."""
    first = word(at)
    if (size > 8 and first == _COMMAND) or (size > 9 and first == _CAMPAIGN and byte(at + 8) == COLON):
        return 0
    return 1 if size == 7 and first & _SEVEN == _ORGANIC else -1

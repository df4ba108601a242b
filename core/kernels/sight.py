"""Sightings: who is seen where for the first time, row by row, and what that changes at the ends of windows.

A pair's row is (key, odd << 63 | first << 16 | day, days << 32 | hot): `first` is time * 2 + organic, `day` the newest day,
`days` the bitmap of days behind it, `hot` the number of its hot slot. A hot slot holds the finer bitmaps: (low, high) of 10 s,
(low, high) of 1 min, their newest panes in two halves of a word, newest hour and bitmap of hours in two halves of another, and
the pair; slot 0 is none.

What costs here is waiting for memory, a row's first touch above all. So a row is one piece, and the tables' rows of a thousand
uses are looked up in a loop of their own, whose iterations do not wait for each other, before the loop that works with them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.kernels import Integer, inlined, kernel
from core.kernels.bits import see
from core.kernels.hashing import home
from core.kernels.pending import entry

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]
UInt16s = npt.NDArray[np.uint16]

SPARE_ENTRIES = 2_048
"""A row may need so many entries of differences: both cells, all windows, and as many ranges as a bitmap can have."""
SPARE_RANGES = 1_024
BLOCK = 1_024
"""Uses that one call takes."""
_NONE = np.uint64(0)
_ONE = np.uint64(1)
_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_ODD = np.uint64(1 << 63)
_FIRST = np.uint64((1 << 43) - 1)
_DAY = np.uint64(0xFFFF)
_DAY_BITS = np.uint64(16)


@inlined
def _count(
    window: Integer, cell: Integer, chain: Integer, start: Integer, stop: Integer,
    opened: Integer, kept: Integer, users: Integer, organic: Integer,
    keys: UInt64s, slots: UInt32s, following: Int32s, values: Int64s, heads: Int32s, low: Int64s, meta: Int64s,
    ranges: Int64s, used: Integer,
) -> Integer:  # fmt: skip
    """Users and organic users more from the end `start` on, less from `stop` on: open ends at once, closed ones as a range."""
    first = max(start, opened)
    if first < stop:
        at = entry(window, cell, first, chain, keys, slots, following, values, heads, low, meta)
        values[at, 0] += users
        values[at, 2] += organic
        at = entry(window, cell, stop, chain, keys, slots, following, values, heads, low, meta)
        values[at, 0] -= users
        values[at, 2] -= organic
    first, stop = max(start, kept), min(stop, opened)
    if first < stop:
        ranges[used, 0], ranges[used, 1], ranges[used, 2], ranges[used, 3] = window, cell, first, stop
        ranges[used, 4], ranges[used, 5] = users, organic
        used += 1
    return used


@inlined
def _turn(
    level: Integer, levels: Int64s, plan: Int64s, cell: Integer, chain: Integer,
    bits_low: np.uint64, bits_high: np.uint64, last: Integer,
    opened: Integer, kept: Integer, turned: Integer,
    keys: UInt64s, slots: UInt32s, following: Int32s, values: Int64s, heads: Int32s, low: Int64s, meta: Int64s,
    ranges: Int64s, used: Integer,
) -> Integer:  # fmt: skip
    """The first use turned out to be of another origin: wherever the pair counts, one organic user more or less."""
    for window in range(levels[level, 3], levels[level, 4]):
        k = plan[window, 2]
        start, stop = 0, -1
        for depth in range(127, -1, -1):
            word = bits_low if depth < 64 else bits_high
            if (word >> np.uint64(depth & 63)) & _ONE == _NONE:
                continue
            pane = last - depth
            if stop >= 0 and pane + 1 <= stop:
                stop = pane + k + 1
                continue
            if stop >= 0:
                used = _count(
                    window, cell, chain + window, start, stop, opened, kept, 0, turned,
                    keys, slots, following, values, heads, low, meta, ranges, used,
                )  # fmt: skip
            start, stop = pane + 1, pane + k + 1
        if stop >= 0:
            used = _count(
                window, cell, chain + window, start, stop, opened, kept, 0, turned,
                keys, slots, following, values, heads, low, meta, ranges, used,
            )  # fmt: skip
    return used


@inlined
def _pour(
    cell: Integer, level: Integer, levels: Int64s, plan: Int64s, opening: Int32s,
    keys: UInt64s, slots: UInt32s, following: Int32s, values: Int64s, heads: Int32s, low: Int64s, meta: Int64s,
) -> None:  # fmt: skip
    """What waits for a cell and level goes to the ends of its windows; nothing waits then."""
    pane, users, organic = np.int64(opening[cell, level, 0]), opening[cell, level, 1], opening[cell, level, 2]
    chain = np.int64(opening[cell, level, 3]) * len(plan)
    for window in range(levels[level, 3], levels[level, 4]):
        at = entry(window, cell, pane + 1, chain + window, keys, slots, following, values, heads, low, meta)
        values[at, 0] += users
        values[at, 2] += organic
        stop = pane + plan[window, 2] + 1
        at = entry(window, cell, stop, chain + window, keys, slots, following, values, heads, low, meta)
        values[at, 0] -= users
        values[at, 2] -= organic
    opening[cell, level, 1] = opening[cell, level, 2] = 0


@inlined
def _wait(
    cell: Integer, level: Integer, pane: Integer, group: Integer, organic: Integer, waiting: Int32s, waits: Integer,
    levels: Int64s, plan: Int64s, opening: Int32s,
    keys: UInt64s, slots: UInt32s, following: Int32s, values: Int64s, heads: Int32s, low: Int64s, meta: Int64s,
) -> Integer:  # fmt: skip
    """One user more in this pane, whom no other pane of his is near. How many wait now."""
    if opening[cell, level, 1] == 0:
        waiting[waits] = cell * 4 + level
        waits += 1
    elif opening[cell, level, 0] != pane:
        _pour(cell, level, levels, plan, opening, keys, slots, following, values, heads, low, meta)
    opening[cell, level, 0], opening[cell, level, 3] = pane, group
    opening[cell, level, 1] += 1
    opening[cell, level, 2] += organic
    return waits


@inlined
def _pair_of(key: np.uint64, rows: UInt64s, slots: UInt32s) -> tuple[Integer, np.uint64]:
    """(number of the pair or -1, its slot or the free one where it would go)."""
    size = np.uint64(len(slots))
    slot = home(key, size)
    while True:
        found = slots[slot]
        if found == 0:
            return -1, slot
        if rows[np.int64(found) - 1, 0] == key:
            return np.int64(found) - 1, slot
        slot += _ONE
        if slot == size:
            slot = _NONE


@kernel("void(u8[:,::1], u4[::1], i8)")
def place_pairs(rows: UInt64s, slots: UInt32s, count: Integer) -> None:
    """Put the first `count` pairs into an empty table."""
    size = np.uint64(len(slots))
    for number in range(count):
        slot = home(rows[number, 0], size)
        while slots[slot] != 0:
            slot += _ONE
            if slot == size:
                slot = _NONE
        slots[slot] = number + 1


@kernel("i8(u8, u8[:,::1], u4[::1])")
def find_pair(key: np.uint64, rows: UInt64s, slots: UInt32s) -> Integer:
    """Number of a pair, -1 where it is not there."""
    return _pair_of(key, rows, slots)[0]


@kernel(
    "i8(i8, i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], i8[:,::1], i8[:,::1],"
    " u8[:,::1], u4[::1], u8[:,::1],"
    " u8[::1], u4[::1], i4[::1], i8[:,::1], i4[::1], i8[::1], i8[::1], i4[:,:,::1], i4[::1],"
    " i8[:,::1], i8[:,::1], i8[::1], i8[:,::1])"
)
def sight(
    row: Integer,
    groups: Int64s,
    users: Int64s,
    named: Int64s,
    times: Int64s,
    organics: Int64s,
    watermarks: Int64s,
    grace: Int64s,
    star: Int64s,
    levels: Int64s,
    plan: Int64s,
    rows: UInt64s,
    pair_slots: UInt32s,
    hot: UInt64s,
    keys: UInt64s,
    slots: UInt32s,
    following: Int32s,
    values: Int64s,
    heads: Int32s,
    low: Int64s,
    meta: Int64s,
    opening: Int32s,
    waiting: Int32s,
    ranges: Int64s,
    odd: Int64s,
    counts: Int64s,
    found: Int64s,
) -> Integer:
    """Take uses from row `row` on, in order of arrival, at most `BLOCK` of them; the next row. It is less where differences or ranges
    have no room for another. Pairs and hot slots must have room for two more a use.

    `levels` holds (step, reach, width, first window, window behind the last) of the four levels, `plan` (level, step, panes) of
    the windows; `counts` (pairs, hot slots, ranges, odd, waiting). A pair whose panes lie too far apart for bitmaps is odd: its uses
    from then on come out as (row, pair), in order. `found`: (BLOCK + 3, 4), to work in.

    Who is seen in a pane that no other of his is near counts in all ends of all windows there, and most who do so in some moment do it
    in the same few cells and panes: they wait in `opening`, a line of the cache each cell, (pane, users, organic users, product) by
    level, and go to the ends together when the pane changes, or by `pour`. `waiting` names cell * 4 + level of all that wait.
    """
    windows = len(plan)
    pairs, hots, used, odds, waits = counts[0], counts[1], counts[2], counts[3], counts[4]
    begin, stop = row, min(len(groups), row + BLOCK)
    touched = _NONE
    for at in range(begin, stop):
        for kind in range(2):
            cell = star[groups[at]] if kind == 0 else named[at]
            if cell == 0:
                continue
            key = (np.uint64(cell) << _HALF) | np.uint64(users[at])
            pair, slot = _pair_of(key, rows, pair_slots)
            if pair < 0:
                pair = pairs
                rows[pair, 0], rows[pair, 1], rows[pair, 2] = key, _FIRST << _DAY_BITS, _NONE
                pairs += 1
                pair_slots[slot] = pairs
            found[at - begin, kind] = pair
            touched ^= hot[np.int64(rows[pair, 2] & _LOW), 5]
    counts[5] = np.int64(touched >> _ONE)  # so that the touch is not optimised away
    panes, opened, kept = found[BLOCK, :4], found[BLOCK + 1, :4], found[BLOCK + 2, :4]
    at_group: Integer = np.int64(-1)
    at_watermark: Integer = np.int64(-1)
    while row < stop:
        if used + SPARE_RANGES > len(ranges) or meta[2] + SPARE_ENTRIES > len(values):
            break
        group = groups[row]
        if group != at_group or watermarks[row] != at_watermark:
            at_group, at_watermark = group, watermarks[row]
            for level in range(4):
                opened[level] = at_watermark // levels[level, 0] + 1
                kept[level] = (at_watermark - grace[group]) // levels[level, 0] + 1
        strange, open_everywhere = False, True
        for level in range(4):
            panes[level] = times[row] // levels[level, 0]
            open_everywhere &= panes[level] + 1 >= opened[level]
            strange |= panes[level] - kept[level] + levels[level, 1] >= levels[level, 2]
        packed = np.uint64(times[row] * 2 + organics[row])
        chain = group * windows
        for kind in range(2):
            cell = star[group] if kind == 0 else named[row]
            if cell == 0:
                continue
            pair = found[row - begin, kind]
            about = rows[pair, 1]
            if strange or about & _ODD:
                rows[pair, 1] = about | _ODD
                odd[odds, 0], odd[odds, 1] = row, pair
                odds += 1
                continue
            first = (about >> _DAY_BITS) & _FIRST
            earliest = min(first, packed)
            organic = np.int64(earliest & _ONE)
            if first == _FIRST and open_everywhere:
                hot[hots, 0], hot[hots, 1], hot[hots, 2], hot[hots, 3] = _ONE, _NONE, _ONE, _NONE
                hot[hots, 4] = (np.uint64(panes[0]) << _HALF) | np.uint64(panes[1])
                hot[hots, 5], hot[hots, 6] = (np.uint64(panes[2]) << _HALF) | _ONE, np.uint64(pair)
                rows[pair, 1] = (packed << _DAY_BITS) | np.uint64(panes[3])
                rows[pair, 2] = (_ONE << _HALF) | np.uint64(hots)
                hots += 1
                for level in range(4):
                    waits = _wait(
                        cell, level, panes[level], group, organic, waiting, waits,
                        levels, plan, opening, keys, slots, following, values, heads, low, meta,
                    )  # fmt: skip
                continue
            turned = organic - np.int64(first & _ONE) if first != _FIRST else np.int64(0)
            tail = rows[pair, 2]
            spot = np.int64(tail & _LOW)
            if spot == 0 and (panes[2] + levels[2, 1] >= kept[2] or turned != 0):
                spot = hots
                for word in range(6):
                    hot[spot, word] = _NONE
                hot[spot, 6] = np.uint64(pair)
                hots += 1
                tail |= np.uint64(spot)
                rows[pair, 2] = tail
            if earliest != first:
                about = (earliest << _DAY_BITS) | (about & _DAY)
                rows[pair, 1] = about
            for level in range(4):
                if level < 2:
                    bits_low, bits_high = hot[spot, 2 * level], hot[spot, 2 * level + 1]
                    last = np.int64(hot[spot, 4] >> _HALF if level == 0 else hot[spot, 4] & _LOW)
                elif level == 2:
                    bits_low, bits_high = hot[spot, 5] & _LOW, _NONE
                    last = np.int64(hot[spot, 5] >> _HALF)
                else:
                    bits_low, bits_high, last = tail >> _HALF, _NONE, np.int64(about & _DAY)
                if turned != 0:
                    used = _turn(
                        level, levels, plan, cell, chain, bits_low, bits_high, last, opened[level], kept[level], turned,
                        keys, slots, following, values, heads, low, meta, ranges, used,
                    )  # fmt: skip
                pane = panes[level]
                if pane + levels[level, 1] < kept[level] or (pane == last and bits_low != _NONE):
                    continue
                new, before, after, bits_low, bits_high, last = see(bits_low, bits_high, last, pane, level < 2)
                if not new:
                    continue
                if level == 0:
                    hot[spot, 0], hot[spot, 1] = bits_low, bits_high
                    hot[spot, 4] = (np.uint64(last) << _HALF) | (hot[spot, 4] & _LOW)
                elif level == 1:
                    hot[spot, 2], hot[spot, 3] = bits_low, bits_high
                    hot[spot, 4] = (hot[spot, 4] & ~_LOW) | np.uint64(last)
                elif level == 2:
                    hot[spot, 5] = (np.uint64(last) << _HALF) | bits_low
                else:
                    rows[pair, 1] = (about & ~_DAY) | np.uint64(last)
                    rows[pair, 2] = (bits_low << _HALF) | (tail & _LOW)
                reach = levels[level, 1]
                if pane + 1 >= opened[level] and before + reach <= pane and after >= pane + reach:
                    waits = _wait(
                        cell, level, pane, group, organic, waiting, waits,
                        levels, plan, opening, keys, slots, following, values, heads, low, meta,
                    )  # fmt: skip
                    continue
                for window in range(levels[level, 3], levels[level, 4]):
                    k = plan[window, 2]
                    used = _count(
                        window, cell, chain + window, max(pane + 1, before + k + 1), min(pane + k, after) + 1,
                        opened[level], kept[level], 1, organic,
                        keys, slots, following, values, heads, low, meta, ranges, used,
                    )  # fmt: skip
        row += 1
    counts[0], counts[1], counts[2], counts[3], counts[4] = pairs, hots, used, odds, waits
    return row


@kernel(
    "i8(i8, i4[:,:,::1], i4[::1], i8[:,::1], i8[:,::1], u8[::1], u4[::1], i4[::1], i8[:,::1], i4[::1], i8[::1], i8[::1])"
)
def pour(
    waits: Integer,
    opening: Int32s,
    waiting: Int32s,
    levels: Int64s,
    plan: Int64s,
    keys: UInt64s,
    slots: UInt32s,
    following: Int32s,
    values: Int64s,
    heads: Int32s,
    low: Int64s,
    meta: Int64s,
) -> Integer:
    """What the last `waits` of `waiting` hold goes to the ends of windows; how many are left, for which there is no room."""
    while waits > 0 and meta[2] + 2 * len(plan) <= len(values):
        waits -= 1
        cell, level = waiting[waits] // 4, waiting[waits] % 4
        _pour(cell, level, levels, plan, opening, keys, slots, following, values, heads, low, meta)
    return waits


@kernel("void(u8[:,::1], u4[::1], u8[:,::1], u4[::1], u4[::1], u8[::1], u2[::1], u4[::1])")
def in_order(
    rows: UInt64s,
    pair_slots: UInt32s,
    hot: UInt64s,
    cells: UInt32s,
    users: UInt32s,
    firsts: UInt64s,
    newest: UInt16s,
    days: UInt32s,
) -> None:
    """Copy the pairs out as columns, in the order of their slots; `hot`, a copy of the hot slots, gets their new numbers.

    A table of any size has its keys in about this order, so it is built again from front to back instead of at random.
    """
    at = 0
    for slot in range(len(pair_slots)):
        number = np.int64(pair_slots[slot]) - 1
        if number < 0:
            continue
        key, about, tail = rows[number, 0], rows[number, 1], rows[number, 2]
        cells[at], users[at] = key >> _HALF, key & _LOW
        firsts[at] = (about >> _DAY_BITS) & _FIRST
        newest[at] = about & _DAY
        days[at] = tail >> _HALF
        spot = np.int64(tail & _LOW)
        if spot:
            hot[spot, 6] = np.uint64(at)
        at += 1


@kernel("void(u4[::1], u4[::1], u8[::1], u2[::1], u4[::1], u8[::1], u8[:,::1], i8)")
def from_columns(
    cells: UInt32s,
    users: UInt32s,
    times: UInt64s,
    newest: UInt16s,
    days: UInt32s,
    least: UInt64s,
    rows: UInt64s,
    start: Integer,
) -> None:
    """Put pairs into the rows from `start` on: the columns plus the `least` of each; `newest` is day * 2 + organic."""
    for i in range(len(cells)):
        dated = np.uint64(newest[i]) + least[3]
        first = ((times[i] + least[2]) << _ONE) | (dated & _ONE)
        rows[start + i, 0] = ((np.uint64(cells[i]) + least[0]) << _HALF) | (np.uint64(users[i]) + least[1])
        rows[start + i, 1] = (first << _DAY_BITS) | (dated >> _ONE)
        rows[start + i, 2] = (np.uint64(days[i]) + least[4]) << _HALF


@kernel("void(u8[:,::1], u8[:,::1])")
def warm(rows: UInt64s, hot: UInt64s) -> None:
    """Tell the pairs of their hot slots; slot 0 is nobody's."""
    for slot in range(1, len(hot)):
        rows[np.int64(hot[slot, 6]), 2] |= np.uint64(slot)

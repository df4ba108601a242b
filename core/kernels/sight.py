"""Sightings: who is seen where for the first time, row by row, and what that changes at the ends of windows.

A pair's row is (key, odd << 63 | first << 16 | day, days << 32 | hot): `first` is time * 2 + organic, `day` the newest day,
`days` the bitmap of days behind it, `hot` the number of its hot slot. A hot slot holds the finer bitmaps: (low, high) of 10 s,
(low, high) of 1 min, their newest panes in two halves of a word, newest hour and bitmap of hours in two halves of another, and
the pair; slot 0 is none.

What costs here is waiting for memory, a row's first touch above all. So a row is one piece, and the tables' rows of a thousand
uses are looked up in loops of their own, some dozens at a time: slots are asked for, then rows, then hot slots, before the loop that
works with them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.kernels import Integer, kernel
from core.kernels.bits import see
from core.kernels.hashing import home
from core.kernels.index import number_of
from core.kernels.memory import NEAR, fetch
from core.kernels.opening import count, turn, wait

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
UInt64s = npt.NDArray[np.uint64]
UInt32s = npt.NDArray[np.uint32]

SPARE_ENTRIES = 2_048
"""A row may need so many entries of differences: both cells, all windows, and as many ranges as a bitmap can have."""
SPARE_RANGES = 1_024
BLOCK = 1_024
"""Uses that one call takes."""
NONE = np.uint64(0)
ONE = np.uint64(1)
HALF = np.uint64(32)
LOW = np.uint64(0xFFFFFFFF)
ODD = np.uint64(1 << 63)
FIRST = np.uint64((1 << 43) - 1)
DAY = np.uint64(0xFFFF)
DAY_BITS = np.uint64(16)


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

    `opening` and `waiting`: `core.kernels.opening`.
    """
    windows = len(plan)
    pairs, hots, used, odds, waits = counts[0], counts[1], counts[2], counts[3], counts[4]
    begin, stop = row, min(len(groups), row + BLOCK)
    size, firsts = np.uint64(len(pair_slots)), rows[:, 0]
    for near in range(begin, stop, NEAR):
        far = min(near + NEAR, stop)
        for at in range(near, far):
            for kind in range(2):
                cell = star[groups[at]] if kind == 0 else named[at]
                place = np.int64(home((np.uint64(cell) << HALF) | np.uint64(users[at]), size))
                found[at - begin, kind] = place
                fetch(pair_slots, place)
        for at in range(near, far):
            for kind in range(2):
                number = np.int64(pair_slots[found[at - begin, kind]])
                if number > 0:
                    fetch(rows, 3 * (number - 1))
        for at in range(near, far):
            for kind in range(2):
                cell = star[groups[at]] if kind == 0 else named[at]
                if cell == 0:
                    continue
                key = (np.uint64(cell) << HALF) | np.uint64(users[at])
                pair, slot = number_of(key, firsts, pair_slots)
                if pair < 0:
                    pair = pairs
                    rows[pair, 0], rows[pair, 1], rows[pair, 2] = key, FIRST << DAY_BITS, NONE
                    pairs += 1
                    pair_slots[slot] = pairs
                found[at - begin, kind] = pair
                fetch(hot, 8 * np.int64(rows[pair, 2] & LOW))
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
            if strange or about & ODD:
                rows[pair, 1] = about | ODD
                odd[odds, 0], odd[odds, 1] = row, pair
                odds += 1
                continue
            first = (about >> DAY_BITS) & FIRST
            earliest = min(first, packed)
            organic = np.int64(earliest & ONE)
            if first == FIRST and open_everywhere:
                hot[hots, 0], hot[hots, 1], hot[hots, 2], hot[hots, 3] = ONE, NONE, ONE, NONE
                hot[hots, 4] = (np.uint64(panes[0]) << HALF) | np.uint64(panes[1])
                hot[hots, 5], hot[hots, 6] = (np.uint64(panes[2]) << HALF) | ONE, np.uint64(pair)
                rows[pair, 1] = (packed << DAY_BITS) | np.uint64(panes[3])
                rows[pair, 2] = (ONE << HALF) | np.uint64(hots)
                hots += 1
                for level in range(4):
                    waits = wait(
                        cell, level, panes[level], group, organic, waiting, waits,
                        levels, plan, opening, keys, slots, following, values, heads, low, meta,
                    )  # fmt: skip
                continue
            turned = organic - np.int64(first & ONE) if first != FIRST else np.int64(0)
            tail = rows[pair, 2]
            spot = np.int64(tail & LOW)
            if spot == 0 and (panes[2] + levels[2, 1] >= kept[2] or turned != 0):
                spot = hots
                for word in range(6):
                    hot[spot, word] = NONE
                hot[spot, 6] = np.uint64(pair)
                hots += 1
                tail |= np.uint64(spot)
                rows[pair, 2] = tail
            if earliest != first:
                about = (earliest << DAY_BITS) | (about & DAY)
                rows[pair, 1] = about
            for level in range(4):
                if level < 2:
                    bits_low, bits_high = hot[spot, 2 * level], hot[spot, 2 * level + 1]
                    last = np.int64(hot[spot, 4] >> HALF if level == 0 else hot[spot, 4] & LOW)
                elif level == 2:
                    bits_low, bits_high = hot[spot, 5] & LOW, NONE
                    last = np.int64(hot[spot, 5] >> HALF)
                else:
                    bits_low, bits_high, last = tail >> HALF, NONE, np.int64(about & DAY)
                if turned != 0:
                    used = turn(
                        level, levels, plan, cell, chain, bits_low, bits_high, last, opened[level], kept[level], turned,
                        keys, slots, following, values, heads, low, meta, ranges, used,
                    )  # fmt: skip
                pane = panes[level]
                if pane + levels[level, 1] < kept[level] or (pane == last and bits_low != NONE):
                    continue
                new, before, after, bits_low, bits_high, last = see(bits_low, bits_high, last, pane, level < 2)
                if not new:
                    continue
                if level == 0:
                    hot[spot, 0], hot[spot, 1] = bits_low, bits_high
                    hot[spot, 4] = (np.uint64(last) << HALF) | (hot[spot, 4] & LOW)
                elif level == 1:
                    hot[spot, 2], hot[spot, 3] = bits_low, bits_high
                    hot[spot, 4] = (hot[spot, 4] & ~LOW) | np.uint64(last)
                elif level == 2:
                    hot[spot, 5] = (np.uint64(last) << HALF) | bits_low
                else:
                    rows[pair, 1] = (about & ~DAY) | np.uint64(last)
                    rows[pair, 2] = (bits_low << HALF) | (tail & LOW)
                reach = levels[level, 1]
                if pane + 1 >= opened[level] and before + reach <= pane and after >= pane + reach:
                    waits = wait(
                        cell, level, pane, group, organic, waiting, waits,
                        levels, plan, opening, keys, slots, following, values, heads, low, meta,
                    )  # fmt: skip
                    continue
                for window in range(levels[level, 3], levels[level, 4]):
                    k = plan[window, 2]
                    used = count(
                        window, cell, chain + window, max(pane + 1, before + k + 1), min(pane + k, after) + 1,
                        opened[level], kept[level], 1, organic,
                        keys, slots, following, values, heads, low, meta, ranges, used,
                    )  # fmt: skip
        row += 1
    counts[0], counts[1], counts[2], counts[3], counts[4] = pairs, hots, used, odds, waits
    return row

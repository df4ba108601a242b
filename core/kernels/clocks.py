"""Running maxima of many products at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.kernels import kernel

Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@kernel("i8(i8[::1], i8[:], i8[::1], i8[::1], i8[::1], i8[::1], i8[::1], b1[::1])")
def running_max(
    groups: Int64s,
    values: Int64s,
    newest: Int64s,
    floor: Int64s,
    out: Int64s,
    touched: Int64s,
    first: Int64s,
    known: Bools,
) -> int:
    """`out[i]`: the maximum of its group's values up to row i, of the group's `newest` before, and of the row's floor.

    `newest` is brought up to date, without the floors. `floor` holds one value a row, or one for all. `touched` and `first` get the
    groups in the order of their first rows, and these rows; how many they are is returned. `known`: a
    False for each group.
    """
    count = 0
    one = len(floor) == 1
    for i in range(len(groups)):
        group = groups[i]
        if not known[group]:
            known[group] = True
            touched[count] = group
            first[count] = i
            count += 1
        if values[i] > newest[group]:
            newest[group] = values[i]
        out[i] = max(newest[group], floor[0] if one else floor[i])
    return count

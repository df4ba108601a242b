"""Kernels: the loops over rows that columns cannot say, compiled to machine code by numba (docs/adr/0007).

A kernel takes arrays and numbers and gives arrays and numbers; it knows no class of ours. Its signature stands at its head and
compiles when the module is imported: some thirty seconds the first time (`make` does it while it installs), milliseconds from then
on. Compiled code is kept beside this package, in a folder named after the sources of *all* kernels: numba itself looks only at the
file of the function it loads, and would go on using a helper that has changed in another file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, cast

import numba
from numba import config

Integer: TypeAlias = Any
"""A 64-bit integer inside kernels: Python's, or one of numpy's. Signatures are what is checked, when the kernel compiles."""
_njit: Any = numba.njit  # its stubs do not know `_nrt`
F = TypeVar("F", bound=Callable[..., Any])


def _place() -> Path:
    here = Path(__file__).parent
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(here.glob("*.py"))))
    return here / "__pycache__" / digest.hexdigest()[:16]


PLACE: Final = _place()
"""Where the compiled code is kept."""
setattr(config, "CACHE_DIR", str(PLACE))  # noqa: B010 - numba makes the module's names when it is loaded


def kernel(signature: str) -> Callable[[F], F]:
    """Compile the function for these argument types. Integers divide as numpy's do: a zero divisor is a caller's defect.

    `_nrt=False`: the function neither makes arrays nor counts references to those it was given; its caller holds them. With
    counting, a look-up in a table that takes 3 ns takes 94.
    """
    return cast(
        "Callable[[F], F]",
        _njit(signature, cache=True, error_model="numpy", boundscheck=False, _nrt=False),
    )


def helper(function: F) -> F:
    """A function of numbers that only kernels call."""
    return cast("F", _njit(function, error_model="numpy", boundscheck=False))


def inlined(function: F) -> F:
    """A function that only kernels call and that takes arrays: it becomes part of them."""
    return cast("F", _njit(function, error_model="numpy", boundscheck=False, inline="always"))

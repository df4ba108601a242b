"""A cache of what is computed of one object that never changes, found by the object itself: comparing definitions costs more than
most of what is asked of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class _Same(Generic[K]):
    """Equal to itself alone; holds the object, so that no other one gets its identity meanwhile."""

    __slots__ = ("it",)

    def __init__(self, it: K) -> None:
        self.it = it

    def __hash__(self) -> int:
        return id(self.it)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.it is other.it


def once(most: int) -> Callable[[Callable[[K], V]], Callable[[K], V]]:
    """Computes once for an object, of the `most` that were asked for last."""

    def of(function: Callable[[K], V]) -> Callable[[K], V]:
        known = lru_cache(maxsize=most)(lambda same: function(same.it))

        @wraps(function)
        def asked(it: K) -> V:
            return known(_Same(it))

        return asked

    return of

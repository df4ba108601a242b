"""Room for what waits: a bound that tenants share, out of which one that floods it cannot shut the others."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, TypeVar

K = TypeVar("K", bound=tuple[str, ...])
V = TypeVar("V")
SMALL: Final = 10
"""A tenant that holds less than one part in so many of the room still gets in while the room is full."""


def is_open(total: int, held: int, most: int) -> bool:
    """Whether a tenant that holds `held` may put one more in: beyond `most` in all only small tenants may, until there is half as
    much again.
    """
    return total < most or (held < most // SMALL and total < most + most // 2)


class Room(dict[K, V]):
    """A mapping whose keys begin with the tenant, and that knows how much each tenant holds.

    Only `room[key] = …`, `del room[key]` and `room.pop(key, None)` change it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: Counter[str] = Counter()

    def open_to(self, tenant: str, most: int) -> bool:
        """Whether the tenant may put one more in (`is_open`)."""
        return is_open(len(self), self._held[tenant], most)

    def __setitem__(self, key: K, value: V) -> None:
        if key not in self:
            self._held[key[0]] += 1
        super().__setitem__(key, value)

    def __delitem__(self, key: K) -> None:
        super().__delitem__(key)
        self._left(key[0])

    def pop(self, key: K, default: Any = None) -> Any:
        """The value, which goes; `default` where there is none."""
        if key in self:
            self._left(key[0])
        return super().pop(key, default)

    def _left(self, tenant: str) -> None:
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]

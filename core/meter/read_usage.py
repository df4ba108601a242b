"""Reading `events.usage`: users, features and what led to them, as numbers."""

from __future__ import annotations

import re
from operator import attrgetter
from typing import Any

import numpy as np

from core.batch import Int64s
from core.kernels import fields as kernel
from core.meter.hot import USAGE
from core.meter.index import Bools
from core.meter.intern import Flags, Prefixed, codes
from core.meter.plain import Scan
from core.meter.products import SettingsOf
from core.meter.read import Reader
from core.meter.usage import Usage
from schemas.registers import ALL

_type, _user, _feature, _attribution = map(attrgetter, ("type", "user", "feature", "attribution"))


class UsageReader(Reader):
    """Reads `events.usage`."""

    source: Usage

    def __init__(self, source: Usage, settings: SettingsOf, seed: int) -> None:
        self._types = Flags({"": 0, "feature.used": 1}, 2)
        self._organic = _Attributions()
        self._features = Prefixed(source.names, "")
        self._features[ALL] = -1  # the product's own name among its features
        super().__init__(source, USAGE, settings, seed, {"type": self._types, "feature": self._features})

    def _scanned_columns(self, scan: Scan, plain: Bools) -> tuple[dict[str, Any], Bools]:
        rows = np.flatnonzero(plain)
        users = np.zeros(len(plain), np.int64)
        users[rows] = self.source.users.numbers(
            scan.hashes[1][rows], lambda places: map(bytes.decode, scan.slices(rows[places], kernel.USER))
        )
        return self._fine(users, scan.figures[kernel.FEATURE], scan.figures[kernel.TYPE], scan.figures[kernel.ORGANIC])

    def _columns(self, rows: list[Any], n: int) -> tuple[dict[str, Any], Bools]:
        users = self.source.users.codes(list(map(_user, rows)))
        features = codes(self._features, map(_feature, rows), n)
        types = codes(self._types, map(_type, rows), n)
        return self._fine(users, features, types, codes(self._organic, map(_attribution, rows), n))

    def _fine(self, users: Int64s, features: Int64s, types: Int64s, organic: Int64s) -> tuple[dict[str, Any], Bools]:
        uses = types == 1
        fine = (users > 0) & (types > 0) & (organic >= 0) & ~(uses & (features <= 0))
        if not uses.all():
            features = np.where(uses, features, 0)
        return {"user": users, "name": features, "organic": organic}, fine

    def _number(self, groups: Int64s, columns: dict[str, Any]) -> dict[str, Int64s]:
        cells = self.source.cells(groups, columns["name"])
        return {"cell": cells, "user": columns["user"], "organic": columns["organic"]}

    def _lacks(self, row: Any) -> str | None:
        if row.type == "feature.used" and row.feature is None:
            return "feature.used needs a `feature`"
        if row.type == "feature.used" and row.feature == ALL:
            return f"`{ALL}` stands for all features and is no feature's name"
        if self._organic[row.attribution] < 0:
            return "`attribution` must be organic, campaign:<id> or command:<id>"
        return None


class _Attributions(dict[object, int]):
    """Attribution → 1 organic, 0 led here by something, -1 malformed; remembers a bounded number."""

    _pattern = re.compile(r"(campaign:|command:).+")

    def __init__(self) -> None:
        super().__init__({None: 1, "organic": 1})

    def __missing__(self, value: object) -> int:
        code = 0 if isinstance(value, str) and self._pattern.fullmatch(value) else -1
        if code == 0 and len(self) < 65_536:
            self[value] = code
        return code

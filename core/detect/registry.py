"""Every detector by the name that definitions call it."""

from __future__ import annotations

from typing import Final

from core.detect.level import Level
from core.detect.protocol import Detector
from core.detect.seasonal import Seasonal
from schemas.definitions import DetectorName

DETECTORS: Final[dict[DetectorName, Detector]] = {
    "level": Level(),
    "daily": Seasonal(24),
    "weekly": Seasonal(168),
}

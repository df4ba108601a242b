"""The fields of the two hot events by number, and what a row is read as (`core.kernels.reading`)."""

from __future__ import annotations

from typing import Final

TENANT, PRODUCT, TYPE, FEATURE, SERVICE = range(5)
"""Fields whose few names are looked up in the table."""
NAMED: Final = 5
ID, USER, ACCOUNT, ATTRIBUTION = range(NAMED, NAMED + 4)
TEXTS: Final = NAMED + 4
"""Fields that are text, by number."""
WHEN, PROPERTIES, VERSION, LATENCY, STATUS, ERROR = range(TEXTS, TEXTS + 6)
ENVELOPE: Final = TEXTS + 6
"""A field of the form around an event: the row is not plain."""
UNKNOWN: Final = -1

PLAIN, MISSED, ODD = range(3)
"""What a row came to. Missed: plain, but the table lacks one of its names."""
STATE, TIME, ORGANIC, FAILED, PART, LENGTH = range(NAMED, NAMED + 6)
"""Lines of figures behind those of the names' codes: `PART` and `LENGTH` are where a latency stands that must be read again."""
FIGURES: Final = NAMED + 6
MARGIN: Final = 16
"""Bytes that can be read behind a row."""

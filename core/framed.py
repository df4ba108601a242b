"""Why the records of a stored batch cannot be told apart: what `core.kernels.framing.walk` answers, without loading it."""

from __future__ import annotations

TOO_LONG = -1
"""A number has more than ten bytes."""
BEYOND = -2
"""A field ends beyond its record, or a record beyond the payload."""
LEFT_OVER = -3
"""A record does not end where the next one begins, or the last one not where the payload does."""

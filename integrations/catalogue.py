"""The list: an integration exists if it stands here. Adding one is one file and one line."""

from __future__ import annotations

from integrations import email, kafka, slack, webhook
from integrations.base import Integration

ALL: tuple[Integration, ...] = (
    webhook,
    slack,
    email,
    kafka,
)
"""Every integration. Its topics are `deliveries.<NAME>` and `deliveries.<NAME>.urgent`."""

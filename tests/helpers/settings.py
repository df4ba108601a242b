"""Settings for tests: a prefix of their own, few partitions, a data directory that goes away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.settings import Settings


def settings_for(kafka: str, prefix: str, data_dir: Path, **changes: Any) -> Settings:
    """Settings that see nothing of the machine's environment or files."""
    return Settings.model_validate(
        {**Settings.model_construct().model_dump(), "kafka": kafka, "topic_prefix": prefix, "data_dir": data_dir}
        | {"partitions": 2}
        | changes
    )

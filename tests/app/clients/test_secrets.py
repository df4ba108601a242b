"""Secrets by reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.clients.secrets import Secrets
from integrations.hands import SecretUnavailable


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    inside = tmp_path / "secrets"
    inside.mkdir()
    (inside / "slack").write_text("xoxb-1\n")
    (inside / "empty").write_text("\n")
    (tmp_path / "outside").write_text("private")
    (inside / "link").symlink_to(tmp_path / "outside")
    return inside


def test_variables_and_files(directory: Path) -> None:
    secrets = Secrets({"UPTAKE_SECRET_HOOK": "whsec_x"}, "UPTAKE_SECRET_", directory)
    assert secrets.reveal({"env": "UPTAKE_SECRET_HOOK"}) == "whsec_x"
    assert secrets.reveal({"file": "slack"}) == "xoxb-1"
    assert secrets.reveal({"file": str(directory / "slack")}) == "xoxb-1"


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ({"env": "UPTAKE_SECRET_NONE"}, "set it there"),
        ({"env": "AWS_SECRET_ACCESS_KEY"}, "name it UPTAKE_SECRET_"),
        ({"env": 1}, "written"),
        ({"file": "../outside"}, "put it into"),
        ({"file": "/etc/hostname"}, "put it into"),
        ({"file": "link"}, "put it into"),
        ({"file": "none"}, "check that it is there"),
        ({"file": "empty"}, "write the secret"),
        ({}, "written"),
    ],
)
def test_what_leads_nowhere_or_is_none_of_theirs(directory: Path, reference: dict[str, object], says: str) -> None:
    secrets = Secrets({"AWS_SECRET_ACCESS_KEY": "private"}, "UPTAKE_SECRET_", directory)
    with pytest.raises(SecretUnavailable, match=says) as caught:
        secrets.reveal(reference)  # type: ignore[arg-type]
    assert "private" not in str(caught.value)

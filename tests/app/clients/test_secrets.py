"""Secrets by reference, and whose they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.clients.reach import Reach
from app.clients.secrets import Secrets
from app.settings import Settings
from integrations.hands import SecretUnavailable
from schemas.definitions import Connection

TENANTS = st.text("ab-1", min_size=1, max_size=6)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    inside = tmp_path / "secrets"
    inside.mkdir()
    (inside / "slack").write_text("xoxb-1\n")
    (inside / "empty").write_text("\n")
    (tmp_path / "outside").write_text("private")
    (inside / "link").symlink_to(tmp_path / "outside")
    for tenant in ("acme", "other"):
        (inside / tenant).mkdir()
        (inside / tenant / "slack").write_text(f"xoxb-{tenant}\n")
    (inside / "acme" / "theirs").symlink_to(inside / "other" / "slack")
    return inside


ENVIRON = {
    "AWS_SECRET_ACCESS_KEY": "private", "UPTAKE_SECRET_HOOK": "private", "UPTAKE_SECRET_ACME__HOOK": "whsec_acme",
    "UPTAKE_SECRET_OTHER__HOOK": "private", "UPTAKE_SECRET_A__B__C": "private",
}  # fmt: skip


def test_the_operators_variables_and_files(directory: Path) -> None:
    secrets = Secrets({"UPTAKE_SECRET_HOOK": "whsec_x"}, "UPTAKE_SECRET_", directory)
    assert secrets.reveal("all", {"env": "UPTAKE_SECRET_HOOK"}) == "whsec_x"
    assert secrets.reveal("all", {"file": "slack"}) == "xoxb-1"
    assert secrets.reveal("all", {"file": str(directory / "slack")}) == "xoxb-1"
    assert secrets.reveal("all", {"file": "acme/slack"}) == "xoxb-acme"


def test_a_tenants_variables_and_files(directory: Path) -> None:
    secrets = Secrets(ENVIRON, "UPTAKE_SECRET_", directory)
    assert secrets.reveal("acme", {"env": "UPTAKE_SECRET_ACME__HOOK"}) == "whsec_acme"
    assert secrets.reveal("acme", {"file": "slack"}) == "xoxb-acme"
    assert secrets.reveal("acme", {"file": str(directory / "acme" / "slack")}) == "xoxb-acme"


@pytest.mark.parametrize(
    ("owner", "reference", "says"),
    [
        ("all", {"env": "UPTAKE_SECRET_NONE"}, "set it there"),
        ("all", {"env": "AWS_SECRET_ACCESS_KEY"}, "name it UPTAKE_SECRET_"),
        ("all", {"env": 1}, "written"),
        ("all", {"file": "../outside"}, "put it into"),
        ("all", {"file": "/etc/hostname"}, "put it into"),
        ("all", {"file": "link"}, "put it into"),
        ("all", {"file": "none"}, "check that it is there"),
        ("all", {"file": "empty"}, "write the secret"),
        ("all", {"file": "a\0b"}, "put it into"),
        ("all", {"file": "x" * 5_000}, "put it into|cannot be read"),
        ("all", {}, "written"),
        ("acme", {"env": "UPTAKE_SECRET_HOOK"}, "name it UPTAKE_SECRET_ACME__"),
        ("acme", {"env": "UPTAKE_SECRET_OTHER__HOOK"}, "no secret of tenant acme: name it UPTAKE_SECRET_ACME__"),
        ("a", {"env": "UPTAKE_SECRET_A__B__C"}, "name it UPTAKE_SECRET_A__"),
        ("acme", {"file": "../other/slack"}, "put it into"),
        ("acme", {"file": "../slack"}, "put it into"),
        ("acme", {"file": "theirs"}, "put it into"),
        ("nobody", {"file": "slack"}, "check that it is there"),
    ],
)
def test_what_leads_nowhere_or_is_none_of_theirs(
    directory: Path, owner: str, reference: dict[str, object], says: str
) -> None:
    secrets = Secrets(ENVIRON, "UPTAKE_SECRET_", directory)
    with pytest.raises(SecretUnavailable, match=says) as caught:
        secrets.reveal(owner, reference)  # type: ignore[arg-type]
    assert "private" not in str(caught.value)


@given(TENANTS, TENANTS, st.text("AB1_", min_size=1, max_size=8))
def test_no_variable_belongs_to_two_tenants(one: str, two: str, name: str) -> None:
    secrets = Secrets({}, "S_", Path("/nowhere"))
    variable = secrets.prefix(one) + name
    if one != two and not secrets.foreign(one, {"x": {"env": variable}}):
        assert secrets.foreign(two, {"x": {"env": variable}})


def test_a_connection_is_judged_by_names_alone_wherever_they_stand() -> None:
    reach = Reach.from_settings(Settings())
    config = {
        "url": "https://x.example",
        "secret": {"env": "UPTAKE_SECRET_OTHER__X"},
        "headers": {"a": {"file": "../b"}},
    }
    hook = Connection(tenant="acme", name="h", integration="webhook", config=config)
    assert [p.split(":")[0] for p in reach.problems(hook)] == [
        "environment variable UPTAKE_SECRET_OTHER__X is no secret of tenant acme",
        "file '../b' is no secret of tenant acme",
    ]
    assert reach.problems(hook.model_copy(update={"config": {"secret": {"env": "UPTAKE_SECRET_ACME__X"}}})) == []


def test_a_tenants_records_go_to_its_own_topics() -> None:
    reach = Reach.from_settings(Settings())
    for owner, topic, fine in (
        ("acme", "acme.in", True), ("acme", "sink", True), ("acme", "other.in", False), ("acme", "acmes.in", False),
        ("acme", "billing", False), ("all", "billing", True),
    ):  # fmt: skip
        team = Connection(tenant=owner, name="t", integration="kafka", config={"topic": topic})
        assert (reach.problems(team) == []) is fine is reach.may_write(owner, topic), topic

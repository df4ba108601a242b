"""The audit finds what concerns the locks, says when it cannot look, and never passes by looking away."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from app.audit import FOUND, NONE_CONFIGURED, UNUSABLE, VARIABLE, audit, main, pins
from tests.helpers.kafka import ROOT

LOCK = "# made by hand\nJinja2==3.1.4 \\\n    --hash=sha256:00\n    # via x\naiohttp[speedups]==3.13.0 ; python_version < '4'\n"


def advisory(
    id: str = "GHSA-1", name: str = "jinja2", events: list[dict[str, str]] | None = None, **more: Any
) -> dict[str, Any]:
    span = {"type": "ECOSYSTEM", "events": events or [{"introduced": "0"}, {"fixed": "3.1.5"}]}
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": [span], "versions": []}
    return {"id": id, "summary": "sandbox breakout", "affected": [affected], **more}


@pytest.mark.parametrize(
    ("events", "hit"),
    [
        ([{"introduced": "0"}, {"fixed": "3.1.5"}], True),
        ([{"introduced": "0"}, {"fixed": "3.1.4"}], False),
        ([{"introduced": "3.1.4"}], True),
        ([{"introduced": "3.1.5"}], False),
        ([{"introduced": "0"}, {"last_affected": "3.1.4"}], True),
        ([{"introduced": "0"}, {"last_affected": "3.1.3"}], False),
        ([{"fixed": "2.0"}, {"introduced": "0"}, {"introduced": "3.0"}, {"fixed": "3.2"}], True),
        ([{"introduced": "0"}, {"fixed": "3.0"}, {"introduced": "3.2"}], False),
        ([{"introduced": "0"}, {"fixed": "3.1.10"}], True),  # by version, not by letters
    ],
)
def test_ranges(events: list[dict[str, str]], hit: bool) -> None:
    hits, seen = audit(pins(LOCK), [advisory(events=events)])
    assert (len(hits), seen) == (int(hit), 1)


def test_versions_one_by_one_withdrawn_other_packages_and_ecosystems() -> None:
    listed = advisory("A", events=[{"introduced": "9"}])
    listed["affected"][0]["versions"] = ["3.1.4"]
    npm = advisory("C")
    npm["affected"][0]["package"]["ecosystem"] = "npm"
    known = [
        listed,
        advisory("B", withdrawn="2024-01-01T00:00:00Z"),
        npm,
        advisory("D", "django"),
        advisory("E", "Jinja2"),
    ]
    assert [h.advisory for h in audit(pins(LOCK), known)[0]] == ["A", "E"]


@pytest.mark.parametrize("form", ["zip", "folder", "list", "single"])
def test_every_form_of_the_list(tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    lock, source = tmp_path / "lock", tmp_path / "advisories"
    lock.write_text(LOCK)
    one = json.dumps(advisory())
    if form == "zip":
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr("GHSA-1.json", one)
    elif form == "folder":
        source.mkdir()
        (source / "GHSA-1.json").write_text(one)
    else:
        source.write_text(f"[{one}]" if form == "list" else one)
    assert main(["--advisories", str(source), str(lock)]) == FOUND
    said = capsys.readouterr().out
    assert (
        "jinja2 3.1.4: GHSA-1 sandbox breakout (fixed in 3.1.5)" in said
        and "2 packages, 1 advisories: 1 packages" in said
    )


def test_nothing_configured_is_said_plainly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert main([]) == NONE_CONFIGURED
    assert "nothing was checked: set UPTAKE_ADVISORIES" in capsys.readouterr().out


@pytest.mark.parametrize("content", [None, "", "{}", "no json", "[]"])
def test_a_list_that_cannot_be_used_is_an_error(tmp_path: Path, content: str | None) -> None:
    source = tmp_path / "a.json"
    if content is not None:
        source.write_text(content)
    assert main(["--advisories", str(source), str(ROOT / "requirements.lock")]) == UNUSABLE


def test_our_own_locks_are_read_whole(tmp_path: Path) -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        assert len(pins(text)) == sum(line[:1].isalnum() for line in text.splitlines())
    source = tmp_path / "a.json"
    source.write_text(json.dumps(advisory(name="aiokafka", events=[{"introduced": "0.14.0"}])))
    assert main(["--advisories", str(source), str(ROOT / "requirements.lock")]) == FOUND

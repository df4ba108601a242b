"""The guide's step "what would it have done?": its YAML blocks are backtested on the archive of a small shop's four days."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli.root import build
from schemas.definitions import Product
from tests.app.backtest.live import Live
from tests.docs.test_guide import FILES, TEXT

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
T0 = 1_790_812_800_000
"""2026-10-01 00:00 UTC."""
PARTITIONS = 1
OPENED = T0 + 30 * HOUR
NAMED = {
    "ann": (T0 + 9 * HOUR, 40, None),
    "bob": (T0 + 10 * HOUR, 40, T0 + 11 * HOUR),
    "cleo": (T0 + 11 * HOUR, 400, None),
    "dan": (T0 + 12 * HOUR, 40, T0 + 20 * HOUR),
}
"""Who leaves a small cart, buys within two hours, leaves a large one, buys after the reminder."""
Ordered = set[tuple[str, str, str, int]]
"""Rule, subject, step, event time."""


def carts() -> list[tuple[str, int, int, int | None]]:
    """(user, when the cart was filled, its amount, when it was bought): one cart a user, in the first two days."""
    return [(name, *cart) for name, cart in NAMED.items()] + [
        (f"u{n}", T0 + n * 28 * MINUTE + 7 * MINUTE, 15 * n, None if n % 3 else T0 + n * 28 * MINUTE + 20 * MINUTE)
        for n in range(96)
    ]


def rows() -> Iterator[tuple[int, str, str, dict[str, Any]]]:
    """(when, topic, about whom, what)."""
    for n, (user, filled, amount, bought) in enumerate(carts()):
        cart = {"user": user, "cart": f"c{n}", "amount": amount}
        yield filled, "events.commerce", user, {"type": "cart.created", **cart}
        if bought is not None:
            yield bought, "events.commerce", user, {"type": "purchase.completed", **cart}
    for contact in ("eve", "finn"):
        stage = {"type": "contact.stage_changed", "stage": "dormant", "contact": contact, "time_zone": "UTC"}
        yield T0 + 6 * HOUR, "events.contacts", contact, stage
    yield OPENED, "events.engagement", "finn", {"type": "message.opened", "contact": "finn", "message": "m1"}
    for n in range(4 * 24 * 4):
        body = {"type": "feature.used", "user": f"u{n % 96}", "feature": "search"}
        yield T0 + n * 15 * MINUTE, "events.usage", f"u{n % 96}", body


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the role `archive` would have kept of them, while none of the guide's files was in force."""
    live = Live(PARTITIONS, 1, T0)
    live.define(Product(tenant="acme", name="shop"))
    for n, (at, topic, about, body) in enumerate(sorted(rows(), key=lambda row: row[0])):
        live.event(topic, about, {"id": f"e{n}", "occurred_at": at, **body})
        live.work(tick=n % 4 == 0)
    live.now = T0 + 4 * DAY + 6 * HOUR
    live.work(tick=True)
    folder = tmp_path_factory.mktemp("archive")
    live.archive(folder)
    return folder


@pytest.fixture
def home(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that somebody works in who follows the guide, on a machine with that archive."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UPTAKE_ARCHIVE_URL", str(archive))
    monkeypatch.setenv("UPTAKE_PARTITIONS", str(PARTITIONS))
    return tmp_path


def said(*options: str) -> str:
    """What `uptake backtest` prints."""
    result = CliRunner().invoke(build("backtest"), ["backtest", *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def by_the_sentences() -> Ordered:
    """What the guide's sentences ask for, not its YAML."""
    found: Ordered = set()
    for user, filled, amount, bought in carts():
        subject = f"user:{user}"
        if bought is not None and bought <= filled + 2 * HOUR:
            continue
        found.add(("guide.cart-reminder", subject, "1", filled + 2 * HOUR))
        found.add(("guide.abandoned-cart", subject, "remind", filled + 2 * HOUR))
        if bought is None:
            last = "call" if amount >= 200 else "discount"
            found.add(("guide.abandoned-cart", subject, last, filled + 26 * HOUR))
    nine = T0 + 9 * HOUR
    found |= {("guide.re-engagement", f"contact:{who}", "tries:1/mail", nine) for who in ("eve", "finn")}
    return found | {("guide.re-engagement", "contact:finn", "back", OPENED)}


def test_its_blocks_order_what_its_sentences_say_and_nothing_else(home: Path) -> None:
    for name, text in FILES.items():
        (home / name).write_text(text)
    lines = [json.loads(text) for text in said("--rules", str(home), "--json", "--commands").splitlines()]
    found = {(c["rule"], c["subject"], c["step"], c["at"]) for c in lines[:-1]}
    assert found == by_the_sentences()
    assert len(found) == len(lines) - 1 == lines[-1]["commands"] and lines[-1]["failed"] == {}
    about = {name: sorted(step for _, subject, step, _ in found if subject == f"user:{name}") for name in NAMED}
    assert about == {
        "ann": ["1", "discount", "remind"],
        "bob": [],
        "cleo": ["1", "call", "remind"],
        "dan": ["1", "remind"],
    }


def test_it_prints_what_the_guide_shows(home: Path) -> None:
    """The guide's command, with the file that it stands for, gives the guide's lines: but for the seconds it took."""
    found = re.search(r"^```sh\nuptake (backtest .*)\n```\n+```text\n(.*?)^```", TEXT, re.M | re.S)
    assert found is not None
    shown = re.sub(r" in [\d.]+ s:", " in … s:", found[2])
    (home / "cart.yaml").write_text(next(text for text in FILES.values() if "name: guide.abandoned-cart" in text))
    assert re.sub(r" in [\d.]+ s:", " in … s:", said(*found[1].split()[1:])) == shown

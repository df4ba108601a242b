"""Who is meant, and what each policy would do: what the preview says is what the desk does."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from core.workflows.graph import Library
from core.workflows.run import Run
from core.workflows.standing import Wanted, preview, where_of
from schemas.cel import parse
from tests.core.workflows.build import T0, H, S, act
from tests.core.workflows.test_publishing import FIRST, Told, version, wait

AFTER = {
    "the same": [act("a", "w"), wait(next_="c"), act("c")],
    "gone": [act("a", "x"), wait("x"), act("b")],
    "repeats": [wait(next_="a"), act("a")],
    "in a body": [{"kind": "loop", "id": "l", "max_turns": 2, "body": "w", "next": "b"}, wait(next_=None), act("b")],
}


def standing_runs() -> tuple[Told, list[Run]]:
    run = Told(FIRST)
    for n in range(3):
        run.signal("go", T0 + n, subject=f"user:u{n}", data={"type": "go", "cart": n})
    return run, [r for n in range(3) for r in run.task.desk.runs("acme", f"user:u{n}")]


@pytest.mark.parametrize("name", sorted(AFTER))
def test_the_preview_says_what_following_does(name: str) -> None:
    run, runs = standing_runs()
    after = version(2, *AFTER[name], publish="follow")
    library = Library()
    library.put(FIRST)
    found = preview(library, "acme", after, Counter(map(where_of, runs)))
    (line,) = found.lines
    assert (line.version, line.places, line.runs, found.runs) == (1, ["w"], 3, 3)
    run.publish(after, T0 + S)
    run.until(T0 + H // 2)
    moved = run.notes("moved")
    kept = {f"stays in version 1: {k['reason']} {k['node']}" for k in run.notes("kept")}
    assert (line.follow == "goes on at w") is (len(moved) == 3)
    assert kept == ({line.follow} if not moved else set())


def test_fields_that_were_not_kept_are_told() -> None:
    _, runs = standing_runs()
    library = Library()
    library.put(FIRST)
    command: dict[str, Any] = {"type": "sales.task.create", "title": "{{ seats }}", "text": "{{ subject }}"}
    after = version(2, act("a", "w"), wait(next_="c"), {**act("c"), "command": command})
    assert preview(library, "acme", after, Counter(map(where_of, runs))).new_fields == ["seats"]


@pytest.mark.parametrize(
    ("wanted", "subjects"),
    [
        (Wanted("w"), [0, 1, 2]),
        (Wanted("v"), []),
        (Wanted("w", tenant="other"), []),
        (Wanted("w", version=2), []),
        (Wanted("w", node="w", version=1), [0, 1, 2]),
        (Wanted("w", node="b"), []),
        (Wanted("w", where=parse('subject == "user:u1"')), [1]),
        (Wanted("w", where=parse(f"began >= {T0 + 1}")), [1, 2]),
    ],
)
def test_who_is_meant(wanted: Wanted, subjects: list[int]) -> None:
    _, runs = standing_runs()
    assert [r.subject for r in runs if wanted.holds(r)] == [f"user:u{n}" for n in subjects]

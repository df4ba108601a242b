"""What is refused before it runs: each with its path and the reason, in files with the line."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from core.rulebook import RulebookError, load_rulebook
from core.workflows.problems import call_problems, problems
from schemas.definitions import Workflow
from schemas.workflows import MAX_NODES
from tests.core.workflows.build import COMMAND, act, workflow

WAIT = {"kind": "wait", "id": "w", "until": {"kind": "span", "span": 60}}


def awaits(**more: Any) -> dict[str, Any]:
    return {"kind": "await", "id": "w", "events": {"opened": None}, "timeout": 60, **more}


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (workflow(act("a", "nowhere")), "nodes[0] (a): next: no node 'nowhere'"),
        (workflow(act("a"), start="b"), "start: no node 'b'"),
        (workflow(act("a"), act("a")), "nodes[1] (a): id: there is another node of this id"),
        (workflow(act("a"), act("b")), "nodes[1] (b): nothing leads to it"),
        (workflow(act("a", "b"), act("b", "a")), "nodes[0] (a): an endless loop: a → b → a"),
        (workflow(awaits(timeout=None)), "nodes[0] (w): timeout: it may wait for ever"),
        (workflow(awaits(events={})), "nodes[0] (w): events: it waits for nothing"),
        (workflow(awaits(events={"opened_": None})), "nodes[0] (w): events.opened_: no event 'opened_' under `events`"),
        (workflow(act("a"), goals=["sold"]), "goals[0]: no event 'sold' under `events`"),
        (
            workflow({"kind": "loop", "id": "l", "body": "a", "max_turns": 2, "next": "b"}, act("a", "b"), act("b")),
            "(b): it is reached both",
        ),
        (workflow({"kind": "loop", "id": "l", "body": "l", "max_turns": 2}), "(l): it is reached both"),
        (
            workflow({"kind": "parallel", "id": "p", "branches": ["a", "b"], "join": 3}, act("a"), act("b")),
            "join: 3 of 2 branches can never end",
        ),
        (
            workflow({"kind": "split", "id": "s", "arms": [{"name": "x"}, {"name": "y"}], "winner": "z"}),
            "winner: no arm 'z'",
        ),
        (workflow({"kind": "decide", "id": "d", "of": "p", "high_from": 1, "low_to": 1}), "nothing could be unsure"),
        (workflow({**WAIT, "until": {"kind": "clock", "at": "09:00", "zone": "Mars/Olympus"}}), "until.zone: no time zone"),
        (workflow({**act("a"), "command": {**COMMAND, "title": "{{ x"}}), "nodes[0] (a): command.title"),
        (workflow(act("a", retry={"attempts": 2})), "retry: only a step that waits for its delivery"),
    ],
)  # fmt: skip
def test_refused(made: Workflow, says: str) -> None:
    assert says in "\n".join(problems(made))


@pytest.mark.parametrize(
    "node",
    [
        {"kind": "nap", "id": "a"},
        {**WAIT, "until": {"kind": "span", "span": "soon"}},
        {**WAIT, "typo": 1},
        {"kind": "loop", "id": "l", "body": "l", "max_turns": 1_000_000},
    ],
)
def test_refused_by_its_form(node: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        workflow(node)


def test_as_large_as_it_may_be_and_larger() -> None:
    chain = [act(f"n{i}", f"n{i + 1}") for i in range(MAX_NODES - 1)]
    assert problems(workflow(*chain, act(f"n{MAX_NODES - 1}"))) == []
    with pytest.raises(ValidationError, match="at most 2000"):
        workflow(*chain, act(f"n{MAX_NODES - 1}", f"n{MAX_NODES}"), act(f"n{MAX_NODES}"))


def test_calls_that_come_back_or_lead_nowhere() -> None:
    a, b, c = (
        workflow({"kind": "call", "id": "c", "workflow": to}, name=n, id=n)
        for n, to in (("a", "b"), ("b", "a"), ("c", "x"))
    )
    known = {w.name: w for w in (a, b, c)}
    assert "calls a again: an endless loop" in "\n".join(call_problems(a, known))
    assert "no workflow 'x'" in "\n".join(call_problems(c, known))


FILE = """definitions:
  - kind: workflow
    name: w
    id: w
    trigger: {kind: event, topic: events.usage}
    start: a
    nodes:
      - kind: act
        id: a
        command: {type: sales.task.create, title: t, text: t}
        next: b
      - kind: wait
        id: b
        until: {kind: span, span: 1h}
    tests:
      - name: one
        steps:
          - wait: 1h
"""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (FILE.replace("next: b", "next: c"), "f.yaml: line 11: definitions[0] (w): nodes[0] (a): next: no node 'c'"),
        (
            FILE.replace("span: 1h", "span: later"),
            "f.yaml: line 14: definitions[0] (w): workflow.nodes[1].wait.until.span.span",
        ),
        (
            FILE.replace("- wait: 1h", "- wait: 1h\n            status: goal"),
            "f.yaml: line 18: definitions[0] (w): tests[0].steps[0]",
        ),
        (
            FILE.replace("title: t,", "title: '{{ t',"),
            "f.yaml: line 10: definitions[0] (w): nodes[0] (a): command.title",
        ),
    ],
)
def test_files_are_told_the_line(text: str, says: str) -> None:
    with pytest.raises(RulebookError) as refused:
        load_rulebook({"f.yaml": text})
    assert says in str(refused.value)

"""What `why` makes of a subject's signals at a moment is what DECIDE remembered then."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.why.events import fold
from core.decide.memories import Memories
from core.rules.patterns import Firing, Seen
from core.rules.waiting import remembers, steps_met
from schemas.definitions import DEFINITION, Rule
from schemas.registers import Signal

T0 = 1_700_000_000_000
A, B = (
    {"topic": "events.usage", "where": {"kind": "compare", "field": "type", "op": "==", "value": name}} for name in "ab"
)
TRIGGERS: list[dict[str, Any]] = [
    {"kind": "count", **A, "times": 3, "within_s": 20},
    {"kind": "sequence", "steps": [A, B, A], "within_s": 30},
    {"kind": "absence", "first": A, "then": B, "within_s": 10},
    {"kind": "absence", "first": A, "then": B, "within_s": 10, "restart": True},
    {"kind": "inactivity", **A, "after_s": 15},
]


def a_rule(trigger: dict[str, Any]) -> Rule:
    command = {"type": "sales.task.create", "title": "t", "text": "t"}
    found = DEFINITION.validate_python({"kind": "rule", "name": "r", "id": "r", "trigger": trigger, "command": command})
    assert isinstance(found, Rule)
    return found


@settings(deadline=None)
@given(
    st.sampled_from(TRIGGERS),
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from("ab")), max_size=14),
    st.integers(1, 90),
)
def test_it_is_what_decide_remembers(trigger: dict[str, Any], events: list[tuple[int, str]], now: int) -> None:
    rule = a_rule(trigger)
    remembering = remembers(rule.trigger)
    assert remembering is not None
    signals = [
        Signal(
            tenant="acme", product="shop", subject="user:ann", kind="event", cause=f"c{i:02}", rules=["r"], at=T0 + at * 1000,
            data={"type": what},
        )
        for i, (at, what) in enumerate(events)
    ]  # fmt: skip
    memories = Memories(lambda tenant, name: rule)
    for s in signals:
        steps = steps_met(remembering, s.subject, {"type": s.data["type"]})
        if steps:
            memories.add("acme", "shop", s.subject, Seen(s.at, s.cause, s.data, s.act, None), {"r": steps})
    until = T0 + now * 1000
    firings: list[Firing] = [f.firing for f in memories.tell("acme", "shop", until) if not isinstance(f, str)]
    entry, fired = fold(remembering, signals, until)
    assert fired == (firings[-1] if firings else None)
    kept = memories.entry("acme", "shop", "user:ann", "r")
    if isinstance(kept, type(entry)) and kept is not None and entry is not None:
        assert (kept.due, kept.times, kept.anchor) == (entry.due, entry.times, entry.anchor)
    else:
        assert entry is None and (kept is None or kept.due < until), (
            "what cannot be completed any more is looked at when it is due"
        )
    assert memories.watermark("acme", "shop") == until

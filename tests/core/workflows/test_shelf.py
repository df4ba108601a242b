"""The shelf finds, by values, exactly the workflows whose triggers hold."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from core.definitions import Catalogue
from core.rules.conditions import holds
from core.workflows.shelf import Shelf
from schemas.definitions import All, AnyOf, Compare, Condition, OnEvent
from tests.core.workflows.build import act, workflow


def condition(rng: random.Random, depth: int = 0) -> Condition:
    if depth < 2 and rng.random() < 0.5:
        of = [condition(rng, depth + 1) for _ in range(rng.randint(1, 3))]
        return All(of=of) if rng.random() < 0.7 else AnyOf(of=of)
    if rng.random() < 0.2:
        return Compare(field="n", op=">", value=rng.randint(0, 3))
    field, value = rng.choice(("type", "cart", "product", "p.plan")), rng.choice("xyz")
    return (
        Compare(field=field, op="==", value=value)
        if rng.random() < 0.7
        else Compare(field=field, op="in", value=["x", value])
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_a_workflow_begins_exactly_when_its_trigger_holds(seed: int) -> None:
    rng = random.Random(seed)
    catalogue, triggers = Catalogue(), dict[str, OnEvent]()
    for i in range(30):
        on = OnEvent(
            topic="events.usage",
            where=None if rng.random() < 0.1 else condition(rng),
            subject=rng.choice(("user", "account")),
        )
        triggers[f"w{i:02}"] = on
        catalogue.put(workflow(act("a"), name=f"w{i:02}").model_copy(update={"id": f"w{i:02}", "trigger": on}))
    shelf = Shelf(catalogue)
    for _ in range(10):
        flat: dict[str, object] = {
            f: rng.choice(("x", "y", "z", None, 1, ["x"])) for f in ("type", "cart", "product", "p.plan")
        }
        flat["n"] = rng.randint(0, 4)
        found = shelf.triggered("acme", "events.usage", "", "user:u", 1 << 50, flat)
        wanted = [
            n for n, on in triggers.items() if on.subject == "user" and (on.where is None or holds(on.where, flat))
        ]
        assert [g.workflow.name for g in found] == wanted

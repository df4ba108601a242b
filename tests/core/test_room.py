"""A flood of one tenant fills the room, and the others still get in; a recovered task keeps the same books."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.decide import memories
from core.decide.memories import Memories
from core.decide.packing import decode, read_key
from core.room import SMALL, Room
from core.rules.patterns import Seen
from schemas.definitions import Rule

MOST = 20
RULE = Rule.model_validate(
    {
        "name": "thrice",
        "id": "thrice",
        "trigger": {"kind": "count", "topic": "events.usage", "times": 3, "within_s": 10},
        "command": {"type": "success.user.help", "title": "t", "text": "t"},
    }
)


def seen(at: int) -> Seen:
    return Seen(at, f"e{at}", {}, True, None)


def of() -> Memories:
    return Memories(lambda tenant, name: RULE)


def add(kept: Memories, tenant: str, at: int) -> str | None:
    return kept.add(tenant, "app", f"user:u{at}", seen(at), {"thrice": [0]})


def again(records: dict[bytes, Any]) -> Memories:
    kept = of()
    for raw, value in records.items():
        row, *rest = read_key(raw)
        if value is not None:
            assert kept.load(row, rest, decode(value))
    return kept


def test_a_flood_does_not_shut_the_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memories, "MAX_WAITING", MOST)
    kept = of()
    assert [add(kept, "loud", at) for at in range(MOST + 3)] == [None] * MOST + ["full"] * 3
    assert [add(kept, "calm", at) for at in range(4)] == [None, None, "full", "full"]
    # What is recovered knows who holds how much.
    records = dict(kept.drain())
    for place in (kept, again(records)):
        assert (add(place, "loud", 50), add(place, "calm", 50), add(place, "third", 50)) == ("full", "full", None)
    # The loud tenant's rows are worked off: there is room again, of rows as of what rules remember.
    told = [why for why in kept.tell("loud", "app", 1_000) if isinstance(why, str)]
    assert not told and add(kept, "loud", 2_000) is None
    assert [why for why in kept.tell("calm", "app", 1_000) if isinstance(why, str)] == []
    assert kept.entry("calm", "app", "user:u1", "thrice") is not None
    assert add(kept, "loud", 2_001) is None
    assert list(kept.tell("loud", "app", 3_000)) == ["full", "full"]


def test_all_together_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memories, "MAX_WAITING", MOST)
    kept = of()
    taken = sum(add(kept, f"tenant-{n}", at) is None for at in range(MOST) for n in range(30))
    assert taken == MOST + MOST // 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=120))
def test_room(moves: list[tuple[str, bool]]) -> None:
    """Beside plain sums: what holds for the tenant and for all."""
    room, held = Room[tuple[str, ...], int](), Counter[str]()
    for tenant, comes in moves:
        total = held.total()
        right = total < MOST or (held[tenant] < MOST // SMALL and total < MOST * 3 // 2)
        assert room.open_to(tenant, MOST) == right
        if comes and right:
            room[tenant, "app", "u", str(held[tenant])] = 1
            room[tenant, "app", "u", str(held[tenant])] = 2  # again: nothing more is held
            held[tenant] += 1
        elif not comes and held[tenant]:
            held[tenant] -= 1
            if held[tenant] % 2:
                del room[tenant, "app", "u", str(held[tenant])]
            else:
                assert room.pop((tenant, "app", "u", str(held[tenant])), None) == 2
        assert room.pop((tenant, "app", "u", "never"), None) is None

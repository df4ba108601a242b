"""What holds two answers side by side must itself see differences."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

from app import compare
from app.oracle.commands import Ordered
from app.oracle.judged import Found
from app.receiver import Receiver


def test_numbers_are_close_or_not_and_nulls_are_not_zero() -> None:
    found = compare.Difference("x")
    found.check("close", {"a": 0.1 + 0.2}, {"a": 0.3})
    assert found.differing == 0
    for ours, oracle in ((0.3001, 0.3), (None, 0.0), ({"a": 1}, {"a": 1, "b": 2}), ("low", "growth"), (None, {"a": 1})):
        found.check("differs", ours, oracle)
    assert (found.compared, found.differing) == (6, 5)


def test_rows_are_carried_forward_but_not_backward() -> None:
    carried = compare.Carried([(("k",), 20, {"v": 2}), (("k",), 10, {"v": 1})])
    assert carried.at(("k",), 9) is None
    assert carried.at(("k",), 19) == {"v": 1}
    assert carried.at(("k",), 99) == {"v": 2}
    assert carried.at(("other",), 99) is None


def _command(**more: Any) -> dict[str, Any]:
    known = {"id": "c", "rule": "r", "tenant": "t", "product": "p", "subject": "feature:f", "type": "a.b.c"}
    return {**known, "issued_at": 5, "payload": {"n": {"users": 3}}, "why": {"numbers": {"users": 3}}, **more}


def test_commands_missing_extra_twice_and_with_wrong_numbers() -> None:
    order = Ordered("c", "r", "a.b.c", Found("d", "stage_entered", "t", "p", "feature:f", 5, {"users": 3}))
    assert compare.commands([_command()], [order]).differing == 0
    for ours in (
        [],
        [_command(), _command()],
        [_command(), _command(id="other")],
        [_command(why={"numbers": {"users": 4}})],
        [_command(payload={"n": {"users": 4}})],
        [_command(type="a.b.d")],
    ):
        assert compare.commands(ours, [order]).differing == 1, ours


def test_dead_letters_twice_from_one_place_differ() -> None:
    place = ("events.usage", "0", "1")
    assert compare.dead_letters({"not_json": [place]}, {"not_json": 1, "accepted": 9}).differing == 0
    assert compare.dead_letters({"not_json": [place, place]}, {"not_json": 2}).differing == 1
    assert compare.dead_letters({}, {"invalid": 1}).differing == 1


def test_the_receiver_believes_signatures_only() -> None:
    secret = "whsec_" + "QUJD" * 8
    receiver = Receiver(secret)
    now = datetime.fromtimestamp(time.time_ns() // 10**9, UTC)
    body = b'{"data":{"id":"c"}}'
    headers = {
        "webhook-id": "w1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("w1", now, body.decode()),
    }
    assert receiver.take(headers, body) == 204
    assert receiver.take(headers, body) == 204
    assert receiver.take(headers, body + b" ") == 401
    assert receiver.take({**headers, "webhook-id": "w2"}, body) == 401
    assert (len(receiver.received), receiver.repeated, receiver.refused) == (1, 1, 2)

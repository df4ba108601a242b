from __future__ import annotations

import pytest

from schemas.cloudevents import from_structured
from schemas.upcast import HISTORIES, Body, History, UnknownVersion, upcast

GROWN = {
    "thing": History(
        "v",
        ("1", "2", "3"),
        {
            "1": lambda body: {**body, "name": body["title"]},
            "2": lambda body: {k: w for k, w in body.items() if k != "title"},
        },
        default="1",
    )
}


@pytest.mark.parametrize("body", [{"title": "a"}, {"v": 1, "title": "a"}, {"v": "2", "name": "a", "title": "a"}])
def test_every_old_version_ends_in_todays_shape(body: Body) -> None:
    assert upcast("thing", body, GROWN) == {"v": "3", "name": "a"}


def test_todays_shape_is_untouched_and_nothing_is_changed_in_place() -> None:
    body: Body = {"v": "3", "name": "a"}
    assert upcast("thing", body, GROWN) is body
    old: Body = {"title": "a"}
    upcast("thing", old, GROWN)
    assert old == {"title": "a"}


@pytest.mark.parametrize("version", ["4", None, 1.5, ["1"]])
def test_an_unknown_version_says_which_are_read(version: object) -> None:
    with pytest.raises(UnknownVersion, match="1, 2, 3"):
        upcast("thing", {"v": version}, GROWN)  # type: ignore[dict-item]


def test_every_history_has_a_step_for_every_version_but_the_newest() -> None:
    for history in HISTORIES.values():
        assert set(history.steps) == set(history.versions[:-1])


def test_cloudevents_0_3_is_lifted() -> None:
    event = from_structured(
        b'{"specversion":"0.3","id":"1","source":"s","type":"t","schemaurl":"http://x",'
        b'"datacontentencoding":"base64","data":"eyJ1c2VyIjoidTEifQ=="}'
    )
    assert (event.data, event.dataschema) == ({"user": "u1"}, "http://x")

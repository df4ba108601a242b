"""Dead letters read back: what was written comes out, whose they are, which may be sent again."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.effects import DeadLetter
from core.letters import Filter, Letter, read_letter, refusal, replay_headers, tenant_of
from schemas.delivery import CUT_HEADER, DEAD_LETTER_HEADERS
from transport.checkpoint import LETTER_BYTES, letter_of
from transport.options import Options

OPTIONS = Options(bootstrap="nowhere:1", role="meter", data_dir=Path("."), prefix="t.")
names = st.text("abcdefghij-_", min_size=1, max_size=12)


def a_letter(**changed: object) -> Letter:
    values: dict[str, object] = {
        "partition": 0, "offset": 5, "step": "meter", "reason": "invalid", "detail": "", "topic": "events.usage",
        "origin_partition": 1, "origin_offset": 9, "group": "meter", "replays": 0, "at": 1_000, "tenant": "acme",
        "event": None, "key": b"acme|u", "value": b"{}", "headers": (), "cut": False,
    }  # fmt: skip
    return Letter(**{**values, **changed})  # type: ignore[arg-type]


def why_not(letter: Letter, most: int = 2, redriven: bool = False, partitions: int = 3) -> str | None:
    return refusal(letter, most=most, redriven=lambda _: redriven, partitions=lambda _: partitions)


@given(
    key=st.none() | st.binary(max_size=40),
    value=st.none() | st.binary(max_size=200),
    headers=st.lists(st.tuples(names, st.binary(max_size=10)), max_size=4),
    replays=st.integers(0, 9),
    offset=st.integers(0, 1 << 40),
)
def test_what_died_comes_back_as_it_was(
    key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]], replays: int, offset: int
) -> None:
    """Also through many deaths: bytes, key and own headers stay, and the replays are counted."""
    row = [*headers, ("uptake-replays", str(replays).encode())]
    for deaths in range(3):
        dead = DeadLetter("in.some", 2, offset, "meter", "invalid", "why", key, value, 77, row)
        record = letter_of(dead, OPTIONS)
        letter = read_letter(record.key, record.value, record.headers, 99, 4, 5)
        whole = key if key is not None or value is not None else b""  # aiokafka writes no record of nothing at all
        assert (letter.key, letter.value, list(letter.headers)) == (whole, value, headers)
        assert (letter.topic, letter.origin_partition, letter.origin_offset) == ("in.some", 2, offset)
        assert (letter.step, letter.reason, letter.at, letter.group) == ("meter", "invalid", 77, "t.meter")
        assert letter.replays == replays + deaths and letter.place == (4, 5) and not letter.cut
        row = replay_headers(letter)


@given(
    st.lists(st.tuples(st.sampled_from([*DEAD_LETTER_HEADERS, CUT_HEADER, "x"]), st.binary(max_size=30))),
    st.none() | st.binary(max_size=60),
    st.none() | st.binary(max_size=60),
)
def test_any_record_can_be_read(headers: list[tuple[str, bytes]], key: bytes | None, value: bytes | None) -> None:
    letter = read_letter(key, value, headers, 7)
    assert letter.replays >= 0 and (letter.value, letter.key) == (value, key)


@pytest.mark.parametrize(
    ("key", "said", "tenant"),
    [
        (b"acme|u", None, "acme"),
        (b"acme|u", "acme", "acme"),
        (b"acme|u", "other", None),  # who is right cannot be known
        (b"acme|u", 5, None),
        (b"acme", "acme", None),  # no key of ours
        (None, "acme", None),
        (b"ACME|u", "acme", None),
        (b"all|hook", "acme", "acme"),  # a shared connection's delivery
        (b"all|hook", None, None),
    ],
)
def test_whose_a_letter_is(key: bytes | None, said: object, tenant: str | None) -> None:
    assert tenant_of(key, said) == tenant


def test_filters() -> None:
    letter = a_letter()
    assert Filter().takes(letter)
    assert Filter("invalid", "meter", "acme", "events.usage", 1_000, 1_001).takes(letter)
    for other in (
        Filter(reason="not_json"), Filter(step="deliver"), Filter(tenant="other"), Filter(topic="signals"),
        Filter(since=1_001), Filter(until=1_000),
    ):  # fmt: skip
        assert not other.takes(letter)
    assert not Filter(tenant="acme").takes(a_letter(tenant=None))


def test_what_may_be_sent_again_and_why_not() -> None:
    assert why_not(a_letter()) is None
    assert why_not(a_letter(replays=1)) is None
    assert why_not(a_letter(replays=2)) == "most_replays"
    assert why_not(a_letter(), redriven=True) == "redriven_before"
    assert why_not(a_letter(step="transport")) == "no_row"
    assert why_not(a_letter(key=b"", value=None)) == "no_row"
    assert why_not(a_letter(value=None)) is None
    assert why_not(a_letter(topic="tables.adoption")) == "compacted"
    assert why_not(a_letter(), partitions=0) == "unknown_topic"
    assert why_not(a_letter(origin_partition=3)) == "unknown_partition"
    assert why_not(a_letter(origin_partition=-1)) == "unknown_partition"


def test_a_value_that_was_cut_off_says_so_and_is_not_sent_again() -> None:
    dead = DeadLetter("events.usage", 0, 1, "meter", "too_large", "", b"acme|u", b"x" * (LETTER_BYTES + 1), 1)
    record = letter_of(dead, OPTIONS)
    letter = read_letter(record.key, record.value, record.headers, 1)
    assert letter.cut and why_not(letter) == "cut_off"
    assert dict(record.headers)[CUT_HEADER] == str(LETTER_BYTES + 1).encode()

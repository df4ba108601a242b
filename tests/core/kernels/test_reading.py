"""What kernels read from bytes, beside the libraries that say the same: hashes, times, and where a JSON value ends."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import numpy as np
import pytest
import xxhash
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.kernels import digest, moments, numbers, text
from core.kernels.fields import MARGIN
from core.meter.wire import Zoned

_BEHIND = b'"}]0,:9\\' + b"9" * MARGIN
"""What another record may leave behind a row: nothing of it may be taken for the row's."""


def on(kernel: Callable[..., Any], data: bytes, *rest: Any) -> int:
    """What a helper says of all of `data`, which stands somewhere in the middle."""
    raw = np.frombuffer(b"x" * 3 + data + _BEHIND, np.uint8)
    return int(kernel(int(raw.ctypes.data) + 3, 0, len(data), *rest))


@pytest.mark.parametrize("size", range(digest.LONGEST + 1))
def test_digests_are_those_of_xxhash(size: int) -> None:
    rng = np.random.default_rng(size)
    for _ in range(5):
        data, seed = rng.bytes(size), int(rng.integers(0, 1 << 63)) * 2 + 1
        raw = np.frombuffer(b"x" + data + _BEHIND, np.uint8)
        found = int(digest.digest(int(raw.ctypes.data) + 1, size, np.uint64(seed)))
        assert found == xxhash.xxh3_64_intdigest(data, seed)


_STRINGS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=20)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _STRINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_STRINGS, inner, max_size=4),
    max_leaves=12,
)
_SPACES = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r ")])


@settings(max_examples=400, deadline=None)
@given(_VALUES, _SPACES, st.booleans())
def test_a_value_ends_where_it_ends(value: Any, spaces: tuple[str, str], ascii: bool) -> None:
    written = json.dumps(value, separators=spaces, ensure_ascii=ascii).encode()
    found = on(text.skipped, written)
    if isinstance(value, int | float) and not isinstance(value, bool):
        assert on(numbers.number, written) == found == len(written)
    assert found == (-1 if b"\\" in written else len(written))
    followed = written + b" , 1"
    assert on(text.skipped, followed) == found or isinstance(value, int | float)


@settings(max_examples=600, deadline=None)
@given(_VALUES, st.data())
@example({"a": [1]}, None)
def test_what_is_not_json_never_ends_as_a_value(value: Any, data: Any) -> None:
    written = bytearray(json.dumps(value, ensure_ascii=False).encode())
    if data is not None:
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, len(written)))
            written[at : at + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from([b"", *_ODD]))
    if on(text.skipped, bytes(written)) == len(written):
        # What is skipped need not be UTF-8: msgspec does not look either.
        assert json.loads(written.decode(errors="replace")) is not ...  # raises where it is not


_ODD = [bytes([c]) for c in b'"\\{}[],:0123456789-+.eE tfn\n\x00\x1f'] + [b"null", b"true", b"false", b"1e", b"01"]


@pytest.mark.parametrize("depth", [1, text.DEEPEST, text.DEEPEST + 1, 500])
def test_depth_has_a_bound(depth: int) -> None:
    for first, last in (b"[", b"]"), (b'{"a":', b"}"):
        written = first * depth + b"1" + last * depth
        assert on(text.skipped, written) == (len(written) if depth <= text.DEEPEST else -1)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_a_string_is_certain_up_to_its_quote(content: str) -> None:
    written = content.encode()
    odd = next((i for i, c in enumerate(written) if c < 0x20 or c == ord("\\") or c == ord('"')), len(written))
    ends = odd < len(written) and written[odd] == ord('"')
    assert on(text.closing, written, text.ANY) == (odd if ends else -1)
    only = next((i for i, c in enumerate(written) if c > 0x7F), len(written))
    assert on(text.closing, written, text.ASCII) == (odd if ends and only > odd else -1)


@settings(max_examples=800, deadline=None)
@given(st.binary(max_size=12) | st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")), st.data())
def test_utf8_is_what_python_takes_for_it(written: bytes, data: Any) -> None:
    if written and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(written) - 1))
        written = written[:at] + bytes([data.draw(st.sampled_from(_EDGES))]) + written[at + 1 :]
    try:
        written.decode()
    except UnicodeDecodeError:
        assert not on(text.utf8, written)
    else:
        assert on(text.utf8, written)


_EDGES = [0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0xF5, 0xFF]


_ZONES = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = st.tuples(st.integers(2 * 86_400 * 10**6, 253_402_000_000 * 10**6), st.just(UTC) | _ZONES).map(
    lambda made: (_EPOCH + timedelta(microseconds=made[0])).astimezone(made[1])
)


@settings(max_examples=600, deadline=None)
@given(_TIMES, st.sampled_from(["auto", "seconds", "milliseconds", "microseconds"]), st.booleans())
@example(datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC), "auto", True)
@example(datetime(2000, 2, 29, tzinfo=UTC), "seconds", False)
def test_times_are_those_of_python(at: datetime, precision: str, short: bool) -> None:
    written = at.isoformat(timespec=precision)
    if short and written.endswith("+00:00"):
        written = written[:-6] + "Z"
    said = datetime.fromisoformat(written)
    assert on(moments.moment, written.encode()) == (said - _EPOCH) // timedelta(milliseconds=1)


_zoned = msgspec.json.Decoder(Zoned).decode


@settings(max_examples=800, deadline=None)
@given(_TIMES, st.data())
def test_a_time_that_is_read_is_one(at: datetime, data: Any) -> None:
    written = bytearray(at.isoformat().encode())
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.integers(0, len(written)))
        written[place : place + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from([b"", *_NEAR]))
    found = on(moments.moment, bytes(written))
    if found >= 0:
        said = _zoned(b'"' + bytes(written) + b'"')
        assert found == (said - _EPOCH) // timedelta(milliseconds=1)


_NEAR = [bytes([c]) for c in b"0123456789-+:.TtZz "] + [b"60", b"24", b"13", b"31", b"02-30", b".1234567"]


@pytest.mark.parametrize("written", [b"", b"0", b"1", b"01", b"999999999999999", b"1000000000000000", b"12"])
def test_whole_numbers(written: bytes) -> None:
    sound = re.fullmatch(rb"0|[1-9][0-9]{0,14}", written) is not None
    assert on(numbers.whole, written) == (int(written) if sound else -1)


@settings(max_examples=400, deadline=None)
@given(st.floats(0, 1e9) | st.decimals(0, 10**9, places=4).map(float) | st.integers(0, 10**15))
def test_decimals_are_the_nearest_doubles(said: float) -> None:
    written = repr(said).encode()
    raw = np.frombuffer(written + _BEHIND, np.uint8)
    found = float(numbers.decimal(int(raw.ctypes.data), 0, len(written)))
    digits = sum(c in b"0123456789" for c in written)
    assert found == (said if digits <= numbers.MOST_DIGITS and b"e" not in written else -1)

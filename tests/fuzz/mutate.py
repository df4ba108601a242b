"""Damage, by a seed: bytes that are nearly right and values that nearly fit find more than noise does."""

from __future__ import annotations

import json
from copy import deepcopy
from random import Random
from typing import Any

LONG = "x" * 5_000
HUGE = "y" * 1_100_000
NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**30, 1e308, -1e308, 5e-324, -0.0,
    float("nan"), float("inf"), "", " ", "\0", "\n", "a|b", "|", "all", "*", "..", "../../etc/passwd", "%s%n", "'; DROP TABLE x;--",
    "\ud800", "\U0010ffff", "é" * 64, "١٢٣", "１２７.０.０.１", LONG, "2026-01-31T12:00:00Z", "2026-01-31", "9999-99-99T99:99:99Z",
    "0001-01-01T00:00:00+23:59", "uptake.replay.begun", "uptake.replay.", "feature.used", "request.completed", "1.0", "0.3", "acme",
    "{{ a }}", "{% for x in y %}", "#zero:x", "service:x", [], {}, [[]], [None], [{}], {"": None}, {"a": {"b": {}}},
    {"env": "UPTAKE_SECRET_X"}, {"file": "../x"}, {"kind": "not", "of": None},
)  # fmt: skip


def nasty(random: Random) -> Any:
    """A value that somebody forgot; now and then very long or very deep."""
    chance = random.random()
    if chance > 0.9995:
        return HUGE
    if chance > 0.99:
        value: Any = random.choice((None, "x", 1))
        for _ in range(random.choice((20, 100, 900))):
            value = [value] if chance > 0.995 else {"of": value, "kind": "not", "a": 1}
        return value
    return deepcopy(random.choice(NASTY))


def damaged(random: Random, value: Any, times: int | None = None) -> Any:
    """The value with some of its parts replaced, dropped, doubled, renamed or moved. The original stays as it was."""
    copy = json.loads(json.dumps(value))
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, 6)) if times is None else times):
        try:
            copy = _once(random, copy)
        except RecursionError:  # what was to be copied is deeper than Python can
            break
    return copy


def _once(random: Random, value: Any) -> Any:
    at = value
    for _ in range(random.choice((1, 1, 2, 3, 5))):
        inner = [v for v in _children(at) if isinstance(v, (dict, list)) and v]
        if not inner or random.random() < 0.4:
            break
        at = random.choice(inner)
    if isinstance(at, dict):
        name = random.choice(list(at)) if at else "new"
        match random.randrange(6):
            case 0:
                at.pop(name, None)
            case 1:
                at[str(nasty(random))[:300]] = deepcopy(at.get(name))
            case 2:
                at[
                    random.choice(("id", "tenant", "type", "data", "kind", "of", "specversion", "schema_version", "x"))
                ] = nasty(random)
            case 3 if len(at) > 1:
                other = random.choice(list(at))
                at[name], at[other] = deepcopy(at[other]), deepcopy(at.get(name))
            case _:
                at[name] = nasty(random)
        return value
    if isinstance(at, list):
        match random.randrange(4):
            case 0 if at:
                at.pop(random.randrange(len(at)))
            case 1 if at:
                at.append(deepcopy(at[random.randrange(len(at))]))
            case 2 if at:
                at[random.randrange(len(at))] = nasty(random)
            case _:
                at.append(nasty(random))
        return value
    return nasty(random)


def _children(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []


def encoded(random: Random, value: Any, spoil: float = 0.15) -> bytes:
    """JSON of a value, sometimes with damaged bytes."""
    try:
        raw = json.dumps(value, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    except (RecursionError, ValueError):
        raw = b"[" * 100_000
    return spoiled(random, raw) if random.random() < spoil else raw


def spoiled(random: Random, raw: bytes, times: int | None = None) -> bytes:
    """Bytes with some flipped, cut out, doubled, moved or put in."""
    made = bytearray(raw)
    for _ in range(random.choice((1, 1, 2, 4, 16)) if times is None else times):
        if not made:
            made += b"\0"
        at = random.randrange(len(made))
        match random.randrange(8):
            case 0:
                made[at] ^= 1 << random.randrange(8)
            case 1:
                made[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
            case 2:
                del made[at : at + random.choice((1, 2, 4, 8, 64))]
            case 3:
                made[at:at] = made[at : at + random.choice((1, 4, 16, 64))]
            case 4:
                made[at:at] = bytes(random.randrange(256) for _ in range(random.choice((1, 2, 4, 8))))
            case 5:
                made[at : at + 4] = random.choice(
                    (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\0")
                )
            case 6:
                del made[at:]
            case _:
                made[at : at + 10] = b"\xff" * random.choice((1, 5, 9, 10))
    return bytes(made)

"""Who has been in a comparison, beside a plain set, over pages that are read back at any moment."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.outcomes import met
from core.outcomes.met import Met

Kept = dict[tuple[str, str, str, int], Any]


def kept(known: Met, rows: Kept) -> None:
    for page, content in known.drain():
        if content is None:
            rows.pop(page, None)
        else:
            rows[page] = content


def back(rows: Kept) -> Met:
    fresh = Met()
    for (*rule, page), content in rows.items():
        tenant, product, name = rule
        fresh.load((tenant, product, name), page, content)
    fresh.loaded()
    return fresh


steps = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["s1", "s2"]), st.integers(0, 30), st.booleans()),
    max_size=80,
)


@settings(deadline=None)
@given(steps)
def test_equals_a_set(asked: list[tuple[str, str, int, bool]]) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(met, "PAGE", 4)
        patched.setattr(met, "_LOOSE", 3)
        known, rows = Met(), Kept()
        plain: dict[str, tuple[str, set[int]]] = {}
        for tenant, signature, subject, restart in asked:
            rule = (tenant, "p", "r")
            if plain.get(tenant, ("", set()))[0] != signature:
                plain[tenant] = (signature, set())
            known.begins(rule, signature)
            assert known.holds(rule, signature, f"user:{subject}") == (subject in plain[tenant][1])
            known.add(rule, signature, f"user:{subject}")
            plain[tenant][1].add(subject)
            if restart:
                kept(known, rows)
                known = back(rows)
            assert len(known) == sum(len(there) for _, there in plain.values())
        for tenant, (signature, there) in plain.items():
            held = [n for n in range(31) if known.holds((tenant, "p", "r"), signature, f"user:{n}")]
            assert held == sorted(there)
            assert known.open_to(tenant, len(known) + 1)


def test_full_pages_are_written_once() -> None:
    known, rows = Met(), Kept()
    rule = ("acme", "p", "r")
    known.begins(rule, "s")
    for n in range(met.PAGE + 5):
        known.add(rule, "s", f"user:{n}")
    kept(known, rows)
    assert {page[3]: len(content[1]) // 8 for page, content in rows.items()} == {0: met.PAGE, 1: 5}
    known.add(rule, "s", "user:more")
    assert [page[3] for page, _ in known.drain()] == [1]


def test_no_row_says_who_it_was() -> None:
    known, rows = Met(), Kept()
    known.begins(("acme", "p", "r"), "s")
    known.add(("acme", "p", "r"), "s", "user:ann@example.org")
    kept(known, rows)
    assert "ann" not in repr(rows)
    assert met.fingerprint("user:ann", "s") != met.fingerprint("user:ann", "t"), (
        "experiments cannot be laid side by side"
    )

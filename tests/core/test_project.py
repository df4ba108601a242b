"""Projection is pure: how the log was split into batches, or repeated, does not matter."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from core.effects import Count, DeadLetter
from core.project import KEYS, TOPICS, VERSIONS, project
from core.public import READERS, Row
from schemas.envelope import Word
from schemas.topics import BY_NAME
from tests.helpers.words import NOON, a_batch, a_command, a_health_row, a_receipt, an_adoption_row

COMMAND = a_command()
adoption = st.builds(
    lambda feature, end, version, users: an_adoption_row("5m", NOON + end * 10_000, feature=feature, version=version, users=users),
    st.sampled_from("ab"), st.integers(0, 60), st.integers(0, 3), st.integers(0, 99),
)  # fmt: skip
health = st.builds(
    lambda end, version: a_health_row(NOON + end, version=version, score=float(version)),
    st.integers(0, 3),
    st.integers(0, 3),
)
receipts = st.builds(
    lambda attempt, final: a_receipt(COMMAND, attempt=attempt, final=final, status="delivered" if final else "retrying"),
    st.integers(1, 4), st.booleans(),
)  # fmt: skip
logs = st.one_of(
    st.tuples(st.just("tables.adoption"), st.lists(adoption, max_size=30)),
    st.tuples(st.just("tables.health"), st.lists(health, max_size=30)),
    st.tuples(st.just("receipts"), st.lists(receipts, max_size=30)),
)


def fold(topic: str, parts: Sequence[Sequence[Word]]) -> dict[str, dict[tuple[object, ...], Row]]:
    """What a database that keeps the higher version of two rows (of equal ones the first) ends with."""
    tables: dict[str, dict[tuple[object, ...], Row]] = {}
    for part in parts:
        for table, rows in project(a_batch(topic, part)).rows.items():
            for row in rows:
                key = tuple(row[c] for c in KEYS[table])
                there = tables.setdefault(table, {}).get(key)
                versions = VERSIONS.get(table, ())
                newer = there is not None and [row[c] for c in versions] > [there[c] for c in versions]  # type: ignore[operator]
                if there is None or newer:
                    tables[table][key] = row
    return tables


@given(logs, st.lists(st.integers(0, 30), max_size=4))
def test_any_split_of_the_log_ends_in_the_same_tables(log: tuple[str, list[Word]], cuts: list[int]) -> None:
    topic, words = log
    edges = sorted({0, len(words), *(min(c, len(words)) for c in cuts)})
    parts = [words[a:b] for a, b in itertools.pairwise(edges)]
    assert fold(topic, parts) == fold(topic, [words]) == fold(topic, [*parts, *parts])


def test_of_one_key_only_the_newest_row_leaves_a_batch() -> None:
    rows = [an_adoption_row("5m", NOON + s * 1000, users=s) for s in (30, 10, 20)]
    made = project(a_batch("tables.adoption", rows))
    assert [r["users"] for r in made.rows["adoption"]] == [30]
    assert Count("uptake_project_rows_total", 1, ("adoption",)) in made.effects


def test_what_is_no_word_is_set_aside_and_nothing_beside_it() -> None:
    huge = a_health_row(version=2**70).model_dump_json().encode()
    values = [a_health_row(NOON), b"{", b"{}", huge, b"\xff", None, a_health_row(NOON + 1)]
    made = project(a_batch("tables.health", values, first=40, partition=3))
    assert [r["at"] for r in made.rows["health"]] == [NOON, NOON + 1]
    dead = [e for e in made.effects if isinstance(e, DeadLetter)]
    assert [(d.offset, d.partition, d.reason, d.step) for d in dead] == [
        (o, 3, "invalid", "project") for o in (41, 42, 43, 44)
    ]
    assert dead[2].value == huge


def test_every_projected_topic_exists_and_has_a_reader_and_only_histories_of_runs_are_not_public() -> None:
    assert all("project" in BY_NAME[topic].readers for topic in TOPICS)
    assert [topic for topic in TOPICS if not BY_NAME[topic].public] == ["runs"]
    assert {"commands" if t.startswith("commands.") else t for t in TOPICS} == set(READERS)
    assert {t.name for t in BY_NAME.values() if "project" in t.readers} == set(TOPICS)

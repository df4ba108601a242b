"""The registers task beside a fold over rows: any interleaving, any batches, crashes at any checkpoint."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from core.batch import Batch
from core.decide.product import ProductState
from core.decide.task import RegistersTask
from core.definitions import Catalogue
from core.effects import Count, Effect, Emit
from schemas.definitions import CommandTemplate, Detector, OnAnomaly, OnBand, OnStage, OnViral, Product, Rule
from schemas.registers import Clock, Patch, RegisterRecord, Registers, encode
from schemas.tables import AdoptionRow, HealthRow
from tests.core.decide.worlds import GRID, PERFORMANCE, T0, USAGE, Row, Source, fold, records

PARTITIONS = 2
UNTIL = T0 + 2_400_000

CFG = Product(
    tenant="acme",
    name="shop",
    stage_window="5m",
    health_window="5m",
    min_target_users=2,
    viral_min_adopters=1,
    slo=0.5,
    margin=0.05,
    apdex_t_ms=100.0,
)


class NoKeys:
    def key(self, row: int) -> bytes | None:
        return None


def batch(values: list[bytes], offset: int) -> Batch:
    n = len(values)
    stamps = np.arange(offset, offset + n, dtype=np.int64) * 7 + T0
    return Batch("meter.registers", 0, list(values), np.arange(offset, offset + n), stamps, offset + n, NoKeys())


def catalogue(cfg: Product) -> Catalogue:
    c = Catalogue()
    c.put(cfg)
    for name, trigger in {
        "S": OnStage(stages=["low", "growth", "market"]),
        "V": OnViral(),
        "B": OnBand(bands=["critical", "declining", "stable", "optimal"]),
        "N": OnAnomaly(detector="events"),
        "O": OnAnomaly(detector="users", edge="ended"),
    }.items():
        c.put(
            Rule(
                name=name,
                id=name,
                trigger=trigger,
                cooldown_s=120,
                ceiling_per_hour=5,
                command=CommandTemplate(
                    type="product.thing.do",
                    title="{{ reason }}",
                    text="t",
                    payload={"at": "{{ at }}", "active": "{{ active_users }}", "numbers": "{{ numbers }}"},
                ),
            )
        )
    for name, more in {
        "events": {"metric": "events", "every_s": 30},
        "users": {"metric": "users", "detector": "daily", "every_s": 60},
        "latency": {"metric": "latency_mean_ms", "window": "1h", "direction": "up"},
    }.items():
        often = {"learn": 10, "limit": 1.7, "keep_firing_for_s": 120}
        c.put(Detector.model_validate({"kind": "detector", "name": name, **often, **more}))
    return c


class Outcome:
    """What a run left on the topics."""

    def __init__(self) -> None:
        self.tables: dict[bytes, dict[str, object]] = {}
        self.lists: dict[str, list[dict[str, object]]] = {}
        self.counts: dict[tuple[str, tuple[str, ...]], float] = {}

    def take(self, effects: list[Effect]) -> None:
        for e in effects:
            if isinstance(e, Emit):
                assert e.value is not None
                word = json.loads(e.value)
                if e.topic.startswith("tables."):
                    model = AdoptionRow if e.topic == "tables.adoption" else HealthRow
                    assert json.loads(model.model_validate(word).model_dump_json()) == word
                    assert e.key is not None
                    old = self.tables.get(e.key)
                    assert old is None or word["version"] > old["version"], "versions grow"
                    self.tables[e.key] = word
                else:
                    self.lists.setdefault(e.topic, []).append(word)
            elif isinstance(e, Count):
                self.counts[e.metric, e.labels] = self.counts.get((e.metric, e.labels), 0) + e.n

    def ids(self, topic: str) -> list[object]:
        return sorted(w["id"] for w in self.lists.get(topic, []))

    def timeless(self, topic: str) -> list[dict[str, object]]:
        """Words without what the broker's time makes of them: when the last missing piece came depends on the order."""
        words = [{k: v for k, v in w.items() if k not in ("expires_at", "at")} for w in self.lists.get(topic, [])]
        return sorted(words, key=lambda w: str(w["id"]))

    def rows(self) -> dict[bytes, dict[str, object]]:
        return {k: {n: v for n, v in w.items() if n != "version"} for k, w in self.tables.items()}


def run(logs: list[list[RegisterRecord]], cfg: Product, seed: int, crashes: bool = False) -> Outcome:
    """Interleave, cut into batches, and (with `crashes`) rebuild the task from its rows at some checkpoints."""
    rng = random.Random(seed)
    queues = [list(log) for log in logs]
    order: list[bytes] = []
    while any(queues):
        queue = rng.choice([q for q in queues if q])
        order += [encode(queue.pop(0)) for _ in range(min(len(queue), rng.choice([1, 1, 3, 30])))]
    c = catalogue(cfg)
    task = RegistersTask(0, PARTITIONS, c)
    state: dict[bytes, bytes] = {}
    out = Outcome()
    at = 0
    while at < len(order):
        n = rng.choice([1, 2, 5, 40])
        out.take(list(task.step(batch(order[at : at + n], at))))
        at += n
        if rng.random() < 0.4:
            for k, v in task.drain():
                if v is None:
                    state.pop(k, None)
                else:
                    state[k] = v
                    assert len(v) < 900_000
            if crashes and rng.random() < 0.7:
                task = RegistersTask(0, PARTITIONS, c)
                rows = list(state.items())
                rng.shuffle(rows)
                for k, v in rows:
                    task.load(k, v)
                task.loaded()
                assert not task.drain() or not [k for k, v in task.drain()]
    assert task.actor.books.difference == 0
    return out


def reader(out: Outcome, feature: str, window: str, end: int) -> dict[str, object] | None:
    """The newest row at or before, as readers take it."""
    slots = [
        (int(k.decode().rsplit("|", 1)[1]), w)
        for k, w in out.tables.items()
        if w.get("feature") == feature and w.get("window") == window
    ]
    return max(((s, w) for s, w in slots if s <= end), key=lambda x: x[0], default=(0, None))[1]


def compare(out: Outcome, sources: list[Source], cfg: Product) -> None:
    expected = fold(sources, cfg, UNTIL)
    got = {
        (d["kind"], d["subject"], d["at"], d.get("stage") or d.get("band") or "")
        for d in out.lists.get("detections", [])
        if not str(d["kind"]).startswith("anomaly")
    }
    met = [
        d
        for d in out.lists.get("detections", [])
        if (d["kind"], d.get("detector")) in (("anomaly", "events"), ("anomaly_ended", "users"))
    ]
    assert got == expected.detections
    for (feature, window, end), want in expected.rows.items():
        row = reader(out, feature, window, end)
        assert row is not None, (feature, window, end)
        have = tuple(row[n] for n in ("users", "events", "target_users", "organic_share", "stage", "viral"))
        assert have == want, (feature, window, end - T0, row["window_end"] - T0)
    newest = None
    for end, (score, band, parts) in sorted(expected.health.items()):
        if end % GRID[cfg.health_window]:
            continue
        rows = [w for k, w in out.tables.items() if "score" in w and int(k.decode().rsplit("|", 1)[1]) <= end]
        if not rows:
            assert not parts
            continue
        newest = max(rows, key=lambda w: w["at"])
        assert newest["band"] == band
        assert newest["score"] == (pytest.approx(score, abs=1e-9) if score is not None else None)
        assert {n: c["score"] for n, c in newest["components"].items()} == pytest.approx(parts, abs=1e-9)
    commands = [c for t, words in out.lists.items() if t.startswith("commands.") for c in words]
    matched = sum(n for (m, _), n in out.counts.items() if m == "uptake_matches_total")
    assert matched == len(got) + len(met) == len(commands) + len(out.lists.get("receipts", []))


@st.composite
def worlds(draw: st.DrawFn) -> list[Source]:
    sources = []
    for topic in (USAGE, PERFORMANCE):
        for partition in range(PARTITIONS):
            at, rows = T0, []
            for _ in range(draw(st.integers(0, 14 if topic == USAGE else 6))):
                at += draw(st.sampled_from([0, 500, 3_000, 20_000, 90_000, 290_000]))
                late = draw(st.sampled_from([0, 0, 0, 5_000, 61_000, 299_000, 650_000]))
                row_at = max(T0, min(at - late, UNTIL - 1))
                feature = draw(st.sampled_from(["f", "g", None]))
                if topic == USAGE:
                    user = f"{partition}{draw(st.sampled_from('abc'))}"
                    rows.append(Row(row_at, user, feature, draw(st.booleans())))
                else:
                    service = "service:x" if feature else "feature:f"
                    rows.append(
                        Row(
                            row_at,
                            "",
                            service,
                            True,
                            draw(st.sampled_from([0, 100_000, 300_000, 900_000])),
                            draw(st.booleans()),
                        )
                    )
            sources.append(Source(topic, partition, rows))
    return sources


def logs_of(sources: list[Source], cfg: Product, rng: random.Random) -> list[list[RegisterRecord]]:
    return [
        records(s, "shop", cfg, UNTIL, [i for i in range(1, len(s.rows) + 1) if rng.random() < 0.6]) for s in sources
    ]


def a_product_that_begins_with_a_late_row() -> list[Source]:
    """Its first ends are corrected before or after others judge them."""
    rows = [Row(T0 + 90_000 + at, "0a", "f", False) for at in (0, 0, 0, -61_000)]
    return [Source(USAGE, 0, rows), Source(USAGE, 1, []), Source(PERFORMANCE, 0, []), Source(PERFORMANCE, 1, [])]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@example(a_product_that_begins_with_a_late_row(), 0, CFG)
@given(
    worlds(),
    st.integers(0, 2**32),
    st.sampled_from([CFG, CFG.model_copy(update={"stage_window": "1h", "features": ["z"], "health_window": "1h"})]),
)
def test_equals_the_fold_whatever_the_order(sources: list[Source], seed: int, cfg: Product) -> None:
    logs = logs_of(sources, cfg, random.Random(seed))
    one = run(logs, cfg, seed)
    two = run(logs, cfg, seed + 1)
    three = run(logs, cfg, seed + 2, crashes=True)
    for other in (two, three):
        assert one.rows() == other.rows()
        for topic in ("detections", "commands.product", "receipts"):
            assert one.timeless(topic) == other.timeless(topic)
    if any(s.rows for s in sources):
        compare(one, sources, cfg)


def replayed(log: list[RegisterRecord], source: Source) -> list[RegisterRecord]:
    """The log as a source tells it whose clock is far ahead, and in which the product begins with a replay."""
    of: dict[str, Any] = {"source": source.topic, "partition": source.partition}
    begun = Registers(
        **of, tenant="acme", product="shop", names=[], columns=[], patches=[], clock=T0 - 1, act=True, replay=True
    )
    far = UNTIL + 90 * 86_400_000
    told = [msgspec.structs.replace(r, replay=True) for r in log if isinstance(r, Registers)]
    return [
        Clock(**of, at=far, replaying=False),
        begun,
        Clock(**of, at=far + 1, replaying=True),
        *told,
        msgspec.structs.replace(begun, clock=UNTIL),
    ]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(worlds(), st.integers(0, 2**32))
def test_a_replay_of_a_new_product_waits_for_every_source_wherever_their_clocks_are(
    sources: list[Source], seed: int
) -> None:
    rng = random.Random(seed)
    logs = [replayed(log, source) for log, source in zip(logs_of(sources, CFG, rng), sources, strict=True)]
    one, two = run(logs, CFG, seed), run(logs, CFG, seed + 1, crashes=True)
    assert one.rows() == two.rows()
    for topic in ("detections", "commands.product", "receipts"):
        assert one.timeless(topic) == two.timeless(topic)
    if any(s.rows for s in sources):
        compare(one, sources, CFG)


def test_after_its_first_word_a_sources_later_idle_clocks_count_for_a_replayed_product() -> None:
    state = ProductState("acme", "shop", 1)
    idle = np.array([900, 900], np.int64)
    for source, behind in ((USAGE, 0), (PERFORMANCE, 1)):
        record = Registers(
            source=source,
            partition=0,
            tenant="acme",
            product="shop",
            names=[],
            columns=[],
            patches=[],
            clock=100,
            act=True,
            replay=True,
        )
        state.take(record, idle, idle)
        list(state.judge(idle, idle))
        assert state.judged == (100 if behind else -1)
    list(state.judge(np.array([901, 901]), np.array([901, 900])))
    assert state.judged == 100
    list(state.judge(np.array([901, 901]), np.array([901, 901])))
    assert state.judged == 901


def test_a_long_backlog_is_judged_in_pieces_that_others_may_work_between() -> None:
    """A source that lagged lets all that waited for it be judged at one of its records."""
    task, upto = RegistersTask(0, 1, Catalogue()), T0 + 2_000 * 10_000
    cell, figures = struct.pack("<q", 0), [struct.pack("<q", n) for n in range(7)]
    patches = [Patch("5m", T0 + (n + 1) * 10_000, 0, cell, [figures[n % 7]] * 3) for n in range(2_000)]
    ahead = Registers(
        source=USAGE, partition=0, tenant="acme", product="shop", names=["*"], columns=["users", "events", "organic"],
        patches=patches, clock=upto, act=True,
    )  # fmt: skip
    assert not [e for e in task.step(batch([encode(ahead)], 0)) if not isinstance(e, Count)]
    state = task.product("acme", "shop")
    assert state is not None and state.judged < T0
    before, pieces = T0, []
    late = Clock(source=PERFORMANCE, partition=0, at=upto, replaying=False)
    for _ in task.step(batch([encode(late)], 1)):
        pieces.append(state.judged - before)
        before = state.judged
    assert state.judged == upto
    assert max(pieces) <= 32 * 10_000 and sum(p > 0 for p in pieces) >= 2_000 // 32

"""Every topic once: who writes it, who reads it, how it is keyed, what it carries, how long it stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.commands import DOMAINS

DAY_MS = 86_400_000
PARTITIONS = 12
"""Of every keyed topic; fixed at `uptake topics create`."""
MAX_MESSAGE_BYTES = 2 * 1024 * 1024
"""Largest record a topic takes; an event above 1 MiB is a dead letter."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic. Its full name is the settings' prefix and `name`."""

    name: str
    key: str
    value: str
    """Name of the word it carries (`schemas`), or a description."""
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    cleanup: Literal["delete", "compact", "compact,delete"] = "delete"
    retention_ms: int = 7 * DAY_MS
    partitions: int | None = None
    """None: the deployment's count."""
    append_time: bool = True
    """The broker stamps rows (LogAppendTime): one clock for "too far ahead" and watermarks."""
    public: bool = True

    def config(self) -> dict[str, str]:
        """Topic configuration as Kafka spells it."""
        config = {
            "cleanup.policy": self.cleanup,
            "message.timestamp.type": "LogAppendTime" if self.append_time else "CreateTime",
            "max.message.bytes": str(MAX_MESSAGE_BYTES),
        }
        if "delete" in self.cleanup:
            config["retention.ms"] = str(self.retention_ms)
        if "compact" in self.cleanup:
            config |= {"min.cleanable.dirty.ratio": "0.3", "segment.ms": str(DAY_MS), "segment.bytes": str(128 << 20)}
            # What is deleted is gone within a day, however quiet the topic (people who want to be forgotten).
            config["max.compaction.lag.ms"] = str(DAY_MS)
        return config


def _events(name: str, word: str, key: str, readers: tuple[str, ...] = ()) -> TopicSpec:
    return TopicSpec(f"events.{name}", key, word, ("producers", "gateway", "ingest"), readers)


INTEGRATIONS_WITH_TOPICS = ("webhook", "slack", "email", "kafka", "other")
"""`deliveries.<integration>`; an integration that does not stand here shares `deliveries.other`."""

TOPICS: tuple[TopicSpec, ...] = (
    _events("usage", "UsageEvent", "tenant|user", ("meter",)),
    _events("performance", "PerformanceEvent", "tenant|service", ("meter",)),
    _events("contacts", "ContactEvent", "tenant|contact", ("meter",)),
    _events("commerce", "CommerceEvent", "tenant|user", ("meter",)),
    _events("engagement", "EngagementEvent", "tenant|contact", ("meter",)),
    _events("feedback", "FeedbackEvent", "tenant|user", ("meter",)),
    _events("development", "DevelopmentEvent", "tenant|subject", ("meter",)),
    _events("market", "MarketEvent", "tenant|subject", ("meter",)),
    TopicSpec(
        "meter.registers",
        "tenant|product",
        "Registers or Clock (MessagePack)",
        ("meter",),
        ("decide", "orchestrate"),
        retention_ms=2 * DAY_MS,
        public=False,
    ),
    TopicSpec(
        "signals",
        "tenant|kind:subject",
        "Signal",
        ("meter", "decide", "gateway", "cli"),
        ("decide", "orchestrate"),
        public=False,
    ),
    TopicSpec(
        "tables.adoption",
        "tenant|product|feature|window|slot",
        "AdoptionRow",
        ("decide",),
        ("project",),
        cleanup="compact,delete",
        retention_ms=400 * DAY_MS,
    ),
    TopicSpec(
        "tables.health",
        "tenant|product|slot",
        "HealthRow",
        ("decide",),
        ("project",),
        cleanup="compact,delete",
        retention_ms=400 * DAY_MS,
    ),
    TopicSpec("outcome.parts", "tenant|product", "Part (JSON)", ("decide",), ("decide",), public=False),
    TopicSpec(
        "outcomes",
        "tenant|product|rule",
        "OutcomeRow",
        ("decide",),
        ("project",),
        cleanup="compact",
    ),
    TopicSpec("detections", "tenant|kind:subject", "Detection", ("decide",), ("project", "orchestrate")),
    *(
        TopicSpec(f"commands.{d}", "tenant|kind:subject", "Command", ("decide", "orchestrate"), ("dispatch", "project"))
        for d in DOMAINS
    ),
    *(
        TopicSpec(f"deliveries.{i}{u}", "tenant|connection", "Delivery", ("dispatch",), ("deliver",))
        for i in INTEGRATIONS_WITH_TOPICS
        for u in ("", ".urgent")
    ),
    TopicSpec(
        "receipts",
        "tenant|kind:subject",
        "Receipt",
        ("decide", "dispatch", "deliver", "orchestrate"),
        ("project", "orchestrate", "decide"),
    ),
    TopicSpec(
        "runs",
        "tenant|kind:subject",
        "Record of a run's history (JSON)",
        ("orchestrate",),
        ("project",),
        retention_ms=90 * DAY_MS,
        public=False,
    ),
    TopicSpec("sink", "tenant|connection", "SinkRecord", ("deliver",), ("project",)),
    TopicSpec(
        "definitions",
        "tenant|kind|name[|version]",
        "Definition",
        ("gateway", "cli", "decide"),
        ("all",),
        cleanup="compact",
        partitions=1,
    ),
    TopicSpec(
        "dead-letters",
        "as the origin",
        "original bytes; reason in headers",
        ("all",),
        ("project",),
        retention_ms=30 * DAY_MS,
    ),
    # Kept longer than the letters: as long as a letter is there, it is known whether it was sent again.
    TopicSpec("redrives", "tenant|partition@offset", "Redrive", ("gateway", "cli"), (), retention_ms=37 * DAY_MS),
    *(
        TopicSpec(
            f"state.{s}",
            "by the table",
            "checkpoints",
            (s.split(".")[0],),
            (s.split(".")[0],),
            cleanup="compact",
            append_time=False,
            public=False,
        )
        for s in (
            "ingest",
            "meter",
            "meter.others",
            "decide.registers",
            "decide.signals",
            "decide.outcomes",
            "dispatch",
            "deliver",
            "orchestrate",
        )
    ),
)

BY_NAME: dict[str, TopicSpec] = {t.name: t for t in TOPICS}

FIGURES: tuple[str, ...] = (
    "meter.registers",
    "signals",
    "outcome.parts",
    "outcomes",
    "tables.adoption",
    "tables.health",
    "detections",
    "state.meter",
    "state.meter.others",
    "state.decide.registers",
    "state.decide.signals",
    "state.decide.outcomes",
)
"""What METER and DECIDE made of the events. Their full names carry the version of the figures. Commands are no part of it,
and so is not what DELIVER knows: ids derive from inputs, so the commands that come again are recognised, and nothing is sent twice."""
SAID: tuple[str, ...] = (*(f"commands.{d}" for d in DOMAINS), "receipts", "dead-letters")
"""What METER and DECIDE say to others. While figures are rebuilt it is kept apart: it was said before."""


def renamed(figures: int, rebuilding: bool = False) -> dict[str, str]:
    """Names that are others in this version of the figures. `rebuilding`: for those who make it beside the one in force."""
    if figures == 1:
        return {}
    return {name: f"{name}.v{figures}" for name in (*FIGURES, *(SAID if rebuilding else ()))}

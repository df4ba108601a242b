"""Generated contracts: JSON Schema of every word, AsyncAPI 3 of every public topic, OpenAPI of the gateway.

`python -m app.generate` writes them under `schemas/generated/`, `--check` fails where they differ from what is committed.
Same code, same bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
import yaml
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaValue

from app.api.build import build_api
from app.settings import Settings
from schemas import commands, definitions, delivery, detections, events, outcomes, tables
from schemas.registers import Signal
from schemas.topics import MAX_MESSAGE_BYTES, TOPICS, TopicSpec

ROOT: Final = Path(__file__).resolve().parent.parent / "schemas" / "generated"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
VERSION: Final = "1.0.0"
"""Of the contracts; grows by its first part when a reader of today could not read tomorrow's."""

MODELS: Final[tuple[type[BaseModel], ...]] = (
    events.UsageEvent,
    events.PerformanceEvent,
    events.ContactEvent,
    events.CommerceEvent,
    events.EngagementEvent,
    events.FeedbackEvent,
    events.DevelopmentEvent,
    events.MarketEvent,
    events.ReplayMarker,
    tables.AdoptionRow,
    tables.HealthRow,
    outcomes.OutcomeRow,
    commands.Command,
    delivery.Delivery,
    delivery.Receipt,
    delivery.SinkRecord,
    delivery.DeadLetter,
    delivery.Redrive,
)
UNIONS: Final[dict[str, TypeAdapter[Any]]] = {
    "Detection": detections.DETECTION,
    "Definition": definitions.DEFINITION,
}
"""Words that are one of several models."""


@cache
def schemas_of_words() -> dict[str, JsonSchemaValue]:
    """Every word's JSON Schema, by name; the members of a union have one of their own."""
    made = {model.__name__: model.model_json_schema() for model in MODELS}
    made |= {name: adapter.json_schema() for name, adapter in UNIONS.items()}
    made["Signal"] = _signal()
    for union in (detections.Detection, definitions.Definition):
        for model in get_args(get_args(union)[0]):
            made[model.__name__] = model.model_json_schema()
    return {name: {"$schema": DIALECT, "title": name, **schema} for name, schema in sorted(made.items())}


def asyncapi() -> dict[str, Any]:
    """AsyncAPI 3.0 of the public topics: whoever reads or writes them needs nothing else of ours."""
    public = [t for t in TOPICS if t.public]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Uptake",
            "version": VERSION,
            "description": "Topics of Uptake. Names may carry a prefix. Keyed topics have one partition count and the murmur2 "
            "partitioner (librdkafka: `partitioner=murmur2_random`); read them with `isolation.level=read_committed`.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {_id(t): _channel(t) for t in public},
        "operations": {name: operation for t in public for name, operation in _operations(t)},
        "components": {"messages": {name: _message(name) for name in sorted({_word(t) for t in public})}},
    }


def files() -> Iterator[tuple[Path, str]]:
    """Every generated file: path below `schemas/generated`, content."""
    for name, schema in schemas_of_words().items():
        yield Path("jsonschema") / f"{name}.json", _json(schema)
    yield (
        Path("asyncapi.yaml"),
        "# Made by `make generate` from schemas/topics.py; not edited.\n"
        + yaml.safe_dump(asyncapi(), sort_keys=False, width=120, allow_unicode=True),
    )
    yield Path("openapi.json"), _json(build_api(Settings.model_construct()).openapi())


def write(root: Path = ROOT) -> list[Path]:
    """Write what differs and remove what is no longer made; the paths touched."""
    made = dict(files())
    touched = differing(root, made)
    for path in touched:
        if path in made:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(made[path], encoding="utf-8")
        else:
            (root / path).unlink()
    return touched


def differing(root: Path, made: dict[Path, str]) -> list[Path]:
    """Files that are missing, differ, or are there and no longer made."""
    there = {p.relative_to(root) for p in root.rglob("*") if p.is_file()} if root.exists() else set()
    stale = [path for path, text in made.items() if path not in there or (root / path).read_text("utf-8") != text]
    return sorted({*stale, *(there - set(made))})


# --- AsyncAPI -----------------------------------------------------------------------------------------------------------

_RAW: Final = "DeadLetterRecord"


def _word(topic: TopicSpec) -> str:
    """The name of the message a topic carries."""
    return topic.value if topic.value in schemas_of_words() else _RAW


def _id(topic: TopicSpec) -> str:
    return topic.name.replace(".", "_").replace("-", "_")


def _channel(topic: TopicSpec) -> dict[str, Any]:
    configuration: dict[str, Any] = {"cleanup.policy": topic.cleanup.split(","), "max.message.bytes": MAX_MESSAGE_BYTES}
    if "delete" in topic.cleanup:
        configuration["retention.ms"] = topic.retention_ms
    kafka: dict[str, Any] = {"topic": topic.name, "topicConfiguration": configuration, "bindingVersion": "0.5.0"}
    if topic.partitions is not None:
        kafka["partitions"] = topic.partitions
    return {
        "address": topic.name,
        "description": f"Key: {topic.key}. Written by {', '.join(topic.writers)}; read by {', '.join(topic.readers) or 'anyone'}.",
        "messages": {_word(topic): {"$ref": f"#/components/messages/{_word(topic)}"}},
        "bindings": {"kafka": kafka},
    }


def _operations(topic: TopicSpec) -> Iterator[tuple[str, dict[str, Any]]]:
    """What Uptake does with the topic: events it receives (its users send them), everything else it sends."""
    incoming = topic.name.startswith("events.")
    action = "receive" if incoming else "send"
    yield (
        f"{action}_{_id(topic)}",
        {
            "action": action,
            "channel": {"$ref": f"#/channels/{_id(topic)}"},
            "summary": f"Uptake {'reads' if incoming else 'writes'} {topic.name}.",
            "messages": [{"$ref": f"#/channels/{_id(topic)}/messages/{_word(topic)}"}],
        },
    )


def _message(name: str) -> dict[str, Any]:
    key: dict[str, Any] = {"type": "string"}
    if name == _RAW:
        return {
            "name": name,
            "title": "The original bytes of a row that was set aside",
            "contentType": "application/octet-stream",
            "headers": {
                "type": "object",
                "properties": {header: {"type": "string"} for header in delivery.DEAD_LETTER_HEADERS},
                "required": list(delivery.DEAD_LETTER_HEADERS),
            },
            "payload": {"description": "Any bytes."},
            "bindings": {"kafka": {"key": {**key, "description": "The origin's key."}, "bindingVersion": "0.5.0"}},
        }
    return {
        "name": name,
        "contentType": "application/json",
        "payload": {
            "schemaFormat": "application/schema+json;version=2020-12",
            "schema": {"$ref": f"./jsonschema/{name}.json"},
        },
        "bindings": {"kafka": {"key": key, "bindingVersion": "0.5.0"}},
    }


def _anything(kind: type) -> dict[str, Any]:
    return {"description": "Any JSON value."}


def _signal() -> JsonSchemaValue:
    _, components = msgspec.json.schema_components([Signal], schema_hook=_anything)
    found: JsonSchemaValue = components["Signal"]
    return found


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the files, or with `--check` tell whether they are as committed."""
    if "--check" in arguments:
        wrong = differing(ROOT, dict(files()))
        for path in wrong:
            sys.stderr.write(f"schemas/generated/{path} is not what the code says: run `make generate`\n")
        return 1 if wrong else 0
    for path in write():
        sys.stdout.write(f"schemas/generated/{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""What is generated is what is committed, and it is valid where it says what it is."""

from __future__ import annotations

import functools
import json
import warnings
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from app.generate import ROOT, differing, files, schemas_of_words
from schemas.topics import TOPICS
from tests.helpers import words

NAMES = sorted(path.name for path in (ROOT / "jsonschema").glob("*.json"))


@functools.cache
def made() -> dict[Path, str]:
    """Seconds of work, for whoever runs these tests, not for all who collect them."""
    return dict(files())


def test_committed_files_are_what_the_code_says() -> None:
    assert [str(p) for p in differing(ROOT, made())] == [], "run `make generate` and commit"
    assert len(made()) > 30


def test_it_is_made_the_same_every_time() -> None:
    schemas_of_words.cache_clear()
    assert dict(files()) == made()


def test_a_difference_is_seen(tmp_path: Path) -> None:
    for path, text in made().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, "utf-8")
    assert differing(tmp_path, made()) == []
    (tmp_path / "openapi.json").write_text("{}")
    (tmp_path / "asyncapi.yaml").unlink()
    (tmp_path / "jsonschema" / "Old.json").write_text("{}")
    assert [str(p) for p in differing(tmp_path, made())] == ["asyncapi.yaml", "jsonschema/Old.json", "openapi.json"]


@pytest.mark.parametrize("name", NAMES)
def test_every_word_has_a_valid_schema(name: str) -> None:
    jsonschema_rs.meta.validate(json.loads(made()[Path("jsonschema") / name]))


COMMAND = words.a_command()
EXAMPLES: list[tuple[str, Any]] = [
    ("AdoptionRow", words.an_adoption_row()),
    ("HealthRow", words.a_health_row()),
    ("Detection", words.a_detection()),
    ("StageEntered", words.a_detection()),
    ("Command", COMMAND),
    ("Receipt", words.a_receipt(COMMAND)),
    ("SinkRecord", words.a_sink_record(COMMAND)),
]


@pytest.mark.parametrize(("name", "word"), EXAMPLES, ids=[name for name, _ in EXAMPLES])
def test_words_hold_against_their_schema_and_strangers_do_not(name: str, word: Any) -> None:
    schema = json.loads(made()[Path("jsonschema") / f"{name}.json"])
    body = json.loads(word.model_dump_json())
    assert jsonschema_rs.is_valid(schema, body)
    assert not jsonschema_rs.is_valid(schema, {**body, "stranger": 1})
    assert not jsonschema_rs.is_valid(schema, {})


def test_the_wire_format_of_the_hot_events_takes_extra_fields_and_both_times() -> None:
    schema = json.loads(made()[Path("jsonschema/UsageEvent.json")])
    event = {"id": "1", "tenant": "a", "product": "p", "type": "feature.used", "feature": "f", "user": "u"}
    for at in (1_700_000_000_000, "2026-01-02T03:04:05Z"):
        assert jsonschema_rs.is_valid(schema, {**event, "occurred_at": at, "extra": {"a": 1}})
    assert not jsonschema_rs.is_valid(schema, event)


def test_asyncapi_is_asyncapi_3_and_names_every_public_topic() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its models shadow names of pydantic's
        from asyncapi3 import AsyncAPI3

    document = yaml.safe_load(made()[Path("asyncapi.yaml")])
    AsyncAPI3.model_validate(document)
    assert {c["address"] for c in document["channels"].values()} == {t.name for t in TOPICS if t.public}
    for message in document["components"]["messages"].values():
        schema = message["payload"].get("schema")
        assert schema is None or (ROOT / schema["$ref"]).is_file()
    for operation in document["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in document["channels"]


def test_every_operation_of_the_api_has_a_name_and_asks_for_a_key() -> None:
    document = json.loads(made()[Path("openapi.json")])
    assert document["openapi"].startswith("3.1")
    ids = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids)) >= 32
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert ("security" in operation) == path.startswith("/api/v1"), path

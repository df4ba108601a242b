"""The gateway's door: requests that nearly fit, into a real gateway in this process, with a real Kafka behind it."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import httpx

from app import topics
from app.api.access import hashed, new_key
from app.api.build import build_api
from app.definitions import publish
from app.kafka import admin, bootstrap, read
from app.settings import Settings
from schemas.definitions import ApiKey, CommandTemplate, Hook, OnViral, Rule
from schemas.topics import TOPICS
from tests.fuzz.mutate import damaged, encoded, nasty
from tests.fuzz.run import HANG_S, Finding, Tally, peak_mb
from tests.fuzz.samples import CLOUD, EVENT, REQUEST, all_definitions
from tests.helpers.kafka import fresh_prefix

INPUTS = {"api": 22_000, "schemathesis": 2_000}
TOGETHER = 8
STREAMS = (
    "events.usage",
    "events.performance",
    "events.contacts",
    "events.commerce",
    "events.engagement",
    "events.feedback",
    "events.development",
    "events.market",
)
TYPES = (
    "application/json",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "text/plain",
    "application/json; charset=utf-16",
    "",
)


@dataclass(slots=True)
class Gateway:
    """A gateway in this process."""

    settings: Settings
    http: httpx.AsyncClient
    document: dict[str, Any]
    key: str
    hook: str


@asynccontextmanager
async def gateway(kafka: str, directory: Path) -> AsyncIterator[Gateway]:
    """A gateway with topics of its own, and a key of everybody's for each of two roles."""
    settings = Settings(
        kafka=kafka, topic_prefix=fresh_prefix("fuzz"), data_dir=directory, partitions=1,
        api_requests_per_s=1e6, api_events_per_s=1e7, tenant_requests_per_s=1e6, tenant_events_per_s=1e7,
    )  # fmt: skip
    await topics.create(settings)
    keys = {role: new_key() for role in ("operations", "product_director")}
    address = new_key()
    await publish(
        settings,
        [
            *(
                ApiKey(tenant="acme", name=role, hash=hashed(key), role=role, created_at=1)
                for role, key in keys.items()
            ),
            Rule(
                tenant="acme",
                name="r",
                id="r",
                trigger=OnViral(),
                command=CommandTemplate(type="product.a.b", title="t", text="t"),
            ),
            Hook(
                tenant="acme",
                name="h",
                product="shop",
                target="events.commerce",
                fields={
                    "user": "user",
                    "amount": "properties.amount",
                    "occurred_at": "occurred_at",
                    "properties.a": "a.b",
                },
                constants={"type": "order.completed"},
                hash=hashed(address),
                time_unit="ms",
            ),
        ],
    )
    app = build_api(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
            yield Gateway(settings, http, app.openapi(), "|".join(keys.values()), f"/hooks/{address}")
    async with admin(settings) as client:
        await client.delete_topics([settings.topic(t.name) for t in TOPICS])


# --- damaged requests ---------------------------------------------------------------------------------------------------


def _segment(random: Random, good: str) -> str:
    return (
        good
        if random.random() < 0.7
        else quote(
            str(nasty(random))[:300].encode("utf-8", "replace").decode(), safe="/" if random.random() < 0.1 else ""
        )
    )


def _request(random: Random, made: Gateway) -> dict[str, Any]:
    """Method, URL, headers and body of one request."""
    director, operations = made.key.split("|")[1], made.key.split("|")[0]
    headers = {"authorization": f"Bearer {operations}", "content-type": "application/json"}
    if random.random() < 0.1:
        calls = [
            damaged(random, random.choice((EVENT, CLOUD)), random.choice((0, 1, 2)))
            for _ in range(random.choice((1, 1, 3)))
        ]
        headers = {"content-type": random.choice((*TYPES, "application/json", "application/x-www-form-urlencoded"))}
        if random.random() < 0.3:
            headers["webhook-id"] = (
                str(nasty(random))[:99].encode("ascii", "ignore").decode().replace("\n", "").replace("\0", "")
            )
        body = encoded(random, calls if random.random() < 0.5 else calls[0], 0.1)
        return {"method": "POST", "url": made.hook, "content": body, "headers": headers}
    if random.random() < 0.6:
        rows = [
            damaged(random, random.choice((EVENT, REQUEST, CLOUD)), random.choice((0, 1, 2)))
            for _ in range(random.choice((1, 1, 2, 5)))
        ]
        headers["content-type"] = random.choice(TYPES) if random.random() < 0.4 else "application/json"
        body = encoded(random, rows if random.random() < 0.8 else rows[0], 0.1)
        stream = random.choice(
            ("", "", "?stream=contacts", "?stream=feedback", "?stream=market", "?stream=x", "?tenant=other")
        )
        return {
            "method": "POST",
            "url": f"/api/v1/products/{_segment(random, 'shop')}/events{stream}",
            "content": body,
            "headers": headers,
        }
    path = random.choice(list(made.document["paths"]))
    method = random.choice(list(made.document["paths"][path]))
    operation = made.document["paths"][path][method]
    good = {
        "kind": "rule",
        "name": "r",
        "which": "adopters",
        "product_id": "shop",
        "feature": "search",
        "id": "x",
        "user": "u",
    }
    query: dict[str, str] = {}
    for parameter in operation.get("parameters", ()):
        name = parameter["name"]
        if parameter["in"] == "path":
            path = path.replace("{" + name + "}", _segment(random, good.get(name, "x")) or "x")
        elif parameter["in"] == "query" and random.random() < 0.3:
            query[name] = str(nasty(random))[:500].encode("utf-8", "replace").decode()
        elif parameter["in"] == "header" and random.random() < 0.8:
            value = "k1" if random.random() < 0.5 else str(nasty(random))[:200]
            headers[name] = value.encode("ascii", "ignore").decode().replace("\n", "").replace("\0", "") or "k"
    if random.random() < 0.5:
        headers["authorization"] = f"Bearer {director}"
    if random.random() < 0.02:
        headers["authorization"] = (
            f"{random.choice(('Basic', 'Bearer', ''))} {str(nasty(random))[:99]}".encode("ascii", "ignore")
            .decode()
            .replace("\n", "")
            .replace("\0", "")
        )
    request: dict[str, Any] = {"method": method.upper(), "url": path, "params": query, "headers": headers}
    if method in ("post", "put"):
        bodies = [
            *all_definitions(),
            {"product": "shop", "feature": "f", "facts": {"a": 1}},
            {"name": "k", "role": "quality"},
        ]
        # At least one damage: a definition that holds costs a transaction and a wait each.
        request["content"] = encoded(random, damaged(random, random.choice(bodies), random.choice((1, 1, 2, 4))), 0.2)
    return request


async def _knock(made: Gateway, request: dict[str, Any]) -> tuple[str, int]:
    """(outcome, events accepted). AssertionError where the answer is not one of the document's kind."""
    async with asyncio.timeout(HANG_S):
        answer = await made.http.request(**request)
    assert answer.status_code < 500, f"{answer.status_code} {answer.text[:300]}"
    accepted = 0
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", answer.headers
        problem = answer.json()
        assert problem["status"] == answer.status_code and problem["type"] and problem["detail"]
    elif request["method"] == "POST" and (
        request["url"].split("?")[0].endswith("/events") or request["url"].startswith("/hooks/")
    ):
        told = answer.json()
        if request["url"].startswith("/hooks/"):
            return "accepted", told["accepted"]
        rows = json.loads(request["content"])
        accepted = told["accepted"]
        assert accepted + len(told["rejected"]) == (len(rows) if isinstance(rows, list) else 1)
    return ("refused" if answer.status_code >= 400 else "accepted"), accepted


async def damaged_requests(made: Gateway, seed: int, inputs: int) -> Tally:
    """Requests by seed; every accepted event is in Kafka afterwards, and nothing else."""
    tally, began, accepted = Tally("api"), time.monotonic(), 0

    async def one(number: int) -> None:
        nonlocal accepted
        request: dict[str, Any] = {}
        try:
            request = _request(Random(f"api/{seed}/{number}"), made)
            outcome, events = await _knock(made, request)
        except Exception as error:
            tally.findings.append(
                Finding("api", seed, number, f"{type(error).__name__}: {str(error)[:300]}", repr(request)[:1_000])
            )
            return
        tally.outcomes[outcome] += 1
        accepted += events

    for start in range(0, inputs, TOGETHER):
        numbers = range(start, min(start + TOGETHER, inputs))
        await asyncio.gather(*(one(n) for n in numbers))
        tally.inputs += len(numbers)
        if len(tally.findings) >= 50:
            break
    written = 0
    async for _ in read(made.settings, STREAMS):
        written += 1
    if written != accepted:
        tally.findings.append(Finding("api", seed, -1, f"{accepted} events were accepted, {written} are in Kafka", ""))
    tally.seconds, tally.peak_mb = time.monotonic() - began, peak_mb()
    return tally


# --- what schemathesis makes of the document ------------------------------------------------------------------------------


def schema_requests(made: Gateway, run: Callable[[Awaitable[Any]], Any], seed: int, inputs: int) -> Tally:
    """Requests that fit the OpenAPI document, and its negatives, for every operation."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from schemathesis import GenerationMode

    tally, began = Tally("schemathesis"), time.monotonic()
    schema = schemathesis.openapi.from_dict(made.document)
    operations = [found.ok() for found in schema.get_all_operations()]
    key = made.key.split("|")[0]
    each = max(1, inputs // len(operations) // 2)
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @seeded(seed)
            @settings(
                max_examples=each,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(operation.as_strategy(generation_mode=mode))
            def knock(case: Any) -> None:
                tally.inputs += 1
                try:
                    sent = case.as_transport_kwargs(base_url="http://gateway")
                    sent.pop("cookies", None)
                    sent["headers"] = {**dict(sent.get("headers") or {}), "authorization": f"Bearer {key}"}
                    if "data" in sent:
                        sent["content"] = sent.pop("data")
                    request = {
                        k: v for k, v in sent.items() if k in ("method", "url", "params", "headers", "json", "content")
                    }
                    outcome, _ = run(_knock(made, {"content": "null", **request} if "json" not in request else request))
                except httpx.InvalidURL:
                    outcome = "no request"
                except (UnicodeEncodeError, TypeError, ValueError) as error:
                    outcome = f"no request: {type(error).__name__}"
                except Exception as error:
                    tally.findings.append(
                        Finding(
                            "schemathesis",
                            seed,
                            tally.inputs,
                            f"{type(error).__name__}: {str(error)[:300]}",
                            repr(case)[:600],
                        )
                    )
                    return
                tally.outcomes[outcome] += 1

            try:
                knock()
            except Exception as error:  # nothing to generate: the operation has no negatives
                if "Unsatisfiable" not in type(error).__name__ and "Skip" not in type(error).__name__:
                    tally.findings.append(Finding("schemathesis", seed, -1, repr(error)[:300], operation.label))
    tally.seconds, tally.peak_mb = time.monotonic() - began, peak_mb()
    return tally


def _whole(name: str) -> Callable[[int, float], Tally]:
    def door(seed: int, part: float) -> Tally:
        inputs = max(1, int(INPUTS[name] * part))
        kafka = os.environ.get("UPTAKE_KAFKA") or bootstrap(Settings())
        with tempfile.TemporaryDirectory(prefix="uptake-fuzz-") as directory, asyncio.Runner() as runner:
            opened = gateway(kafka, Path(directory))
            made = runner.run(opened.__aenter__())
            try:
                if name == "api":
                    return runner.run(damaged_requests(made, seed, inputs))
                return schema_requests(made, lambda work: runner.run(_awaited(work)), seed, inputs)
            finally:
                runner.run(opened.__aexit__(None, None, None))

    return door


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


API_DOORS: dict[str, Callable[[int, float], Tally]] = {name: _whole(name) for name in INPUTS}

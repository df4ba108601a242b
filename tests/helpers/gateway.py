"""A real gateway for tests: uvicorn on a free port, real Kafka, a read model that the test fills."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn

from app import topics
from app.api.access import ROLES, hashed, new_key
from app.api.build import build_api
from app.definitions import publish
from app.kafka import Record, producer, read
from app.settings import Settings
from app.store import Writer
from core.batch import Batch
from core.project import project
from schemas.definitions import ApiKey, Definition
from tests.helpers.kafka import free_port, run_anywhere


@dataclass(frozen=True)
class Served:
    """A gateway that answers at `url`."""

    settings: Settings
    url: str
    keys: dict[tuple[str, str], str]
    """(tenant, role) → key."""
    _kept: dict[tuple[str, str], httpx.Client] = field(default_factory=dict)

    def kept(self, role: str, tenant: str = "acme") -> httpx.Client:
        """A client that whoever asks for it next gets too: making one takes longer than most answers."""
        if (tenant, role) not in self._kept:
            self._kept[tenant, role] = self.client(role, tenant)
        return self._kept[tenant, role]

    def close(self) -> None:
        """Close the clients that were kept."""
        for client in self._kept.values():
            client.close()

    def client(self, role: str = "product_director", tenant: str = "acme", **options: object) -> httpx.Client:
        key = self.keys[tenant, role]
        headers = {"authorization": f"Bearer {key}"}
        # Plain HTTP on loopback: reading the system's certificates would be most of the time of a request.
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, verify=False, **options)  # type: ignore[arg-type]

    def project(self, *batches: Batch) -> None:
        """Put these into the read model, as the project role would."""

        async def put() -> None:
            writer = Writer(self.settings.store_url)
            for batch in batches:
                made = project(batch)
                await writer.write(
                    made.rows, role="project", topic=batch.topic, partition=0, next_offset=batch.next_offset
                )
            await writer.close()

        run_anywhere(put())

    def define(self, *definitions: Definition) -> None:
        """Publish definitions, as the command line would, and wait until the gateway has read them."""
        run_anywhere(publish(self.settings, definitions))
        wanted = {(d.kind, d.name) for d in definitions}
        deadline = time.monotonic() + 60
        with self.client("operations", "all") as client:
            while not wanted <= {(d["kind"], d["name"]) for d in client.get("/api/v1/definitions").json()}:
                assert time.monotonic() < deadline, "the gateway has not read the definitions"
                time.sleep(0.05)

    def written(self, *names: str) -> list[Record]:
        """Everything that stands in these topics."""

        async def collect() -> list[Record]:
            return [record async for record in read(self.settings, names)]

        return run_anywhere(collect())


@contextmanager
def serve(
    kafka: str, prefix: str, directory: Path, tenants: Sequence[str] = ("acme", "other", "all"), **changed: object
) -> Iterator[Served]:
    """A gateway with topics of its own and a key for every tenant and role."""
    values: dict[str, object] = {"kafka": kafka, "topic_prefix": prefix, "data_dir": directory, "partitions": 3}
    settings = Settings(**{**values, **changed})  # type: ignore[arg-type]
    keys = {(tenant, role): new_key() for tenant in tenants for role in ROLES}
    definitions = [
        ApiKey(tenant=tenant, name=f"test-{role}", hash=hashed(key), role=role, created_at=1)
        for (tenant, role), key in keys.items()
    ]

    async def prepare() -> None:
        await topics.create(settings)
        await publish(settings, definitions)

    run_anywhere(prepare())
    port = free_port()
    # A connection that is kept is not closed in the moment in which it is used again.
    config = uvicorn.Config(
        build_api(settings), host="127.0.0.1", port=port, log_level="warning", timeout_keep_alive=600
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    deadline = time.monotonic() + 90
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline, "the gateway did not start"
        time.sleep(0.02)
    served = Served(settings, f"http://127.0.0.1:{port}", keys)
    try:
        yield served
    finally:
        served.close()
        server.should_exit = True
        thread.join(60)


def write_raw(settings: Settings, records: Sequence[tuple[str, int, bytes, bytes | None]]) -> None:
    """Put records (topic without prefix, partition, key, value) into Kafka as they are."""

    async def put() -> None:
        async with producer(settings) as made:
            for topic, partition, key, value in records:
                await made.send_and_wait(settings.topic(topic), value, key=key, partition=partition)

    run_anywhere(put())

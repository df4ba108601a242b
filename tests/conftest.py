"""Shared fixtures: one real Kafka a session, and a topic prefix of its own for each test."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.helpers.kafka import TestKafka, provide, stop

# A machine that is busy is slow: how long an example takes says nothing about whether it is right.
settings.register_profile("uptake", deadline=None)
settings.load_profile("uptake")


# A broker that lives for minutes spends more on the second compiler of its machine than it gets back: 28 s of CPU became 17.
os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")


SHARED = pytest.StashKey[Path]()
"""Where the broker lies that the processes of one run share: each of them would warm up its own."""


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Before a process of the run starts: it is told where the broker is to be."""
    if SHARED not in node.config.stash:
        node.config.stash[SHARED] = Path(tempfile.mkdtemp(prefix="uptake-tests-"))
    node.workerinput["kafka"] = str(node.config.stash[SHARED])


def pytest_unconfigure(config: pytest.Config) -> None:
    """After all of them: the broker that they shared, if one of them asked for it."""
    if (directory := config.stash.get(SHARED, None)) is not None:
        stop(directory)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def kafka_broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestKafka]:
    """The session's broker: `UPTAKE_TEST_KAFKA`, else a container where Docker answers, else the one from pip."""
    told = getattr(request.config, "workerinput", {}).get("kafka")
    directory = Path(told) if told is not None else tmp_path_factory.mktemp("kafka")
    with provide(directory, shared=told is not None) as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka(kafka_broker: TestKafka) -> str:
    """Bootstrap address of the session's broker."""
    return kafka_broker.address


@pytest.fixture
def prefix(request: pytest.FixtureRequest, kafka: str) -> Iterator[str]:
    """A topic prefix no other test uses, ending in "."; its topics are deleted afterwards."""
    from tests.helpers.kafka import delete_topics, fresh_prefix

    name = fresh_prefix(request.node.name)
    yield name
    delete_topics(kafka, name)


# Importing thousands of tests makes nothing that could go.
gc.disable()


def pytest_collection_finish() -> None:
    """What there is by now stays: the collector need not look through it again and again (52 → 45 s of CPU for tests/core/meter,
    the registers and the rows of D1 alone).
    """
    gc.enable()
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


FIRST = ("sim/test_sim.py", "sim/test_faust_defects.py", "workflows/test_oracle.py")
"""Minutes of one process each: beside tests that wait for many, not alone at the end."""

NOT_LAST = ("transport/test_zombies.py", "transport/test_poison.py", "transport/test_processes.py")
"""Last in the tree, and long because they wait: the end of the run would wait with them."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest of one process first. Two tests of one name would be run as one by two processes."""
    items.sort(key=lambda item: (not (path := item.path.as_posix()).endswith(FIRST), not path.endswith(NOT_LAST)))
    twice = [name for name, count in Counter(item.nodeid for item in items).items() if count > 1]
    if twice:
        raise pytest.UsageError(f"tests share a name, give each its own: {', '.join(twice)}")

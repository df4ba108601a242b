"""The peers, each as the command that runs it. Nothing is installed beyond the locks and, once, jars from Maven Central."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
STREAMS_JARS = (
    "org.apache.kafka:kafka-streams:4.1.1",
    "com.fasterxml.jackson.core:jackson-core:2.19.2",
    "org.lz4:lz4-java:1.8.0",
    "org.slf4j:slf4j-nop:1.7.36",
)
COMPILER_JARS = ("org.eclipse.jdt:ecj:3.42.0",)


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a peer."""

    address: str
    topic: str
    name: str
    """Unique: application id, group and changelog topics begin with it."""
    rows: int
    partitions: int
    data: Path
    """An empty folder."""
    out: Path


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool that does W."""

    name: str
    title: str
    command: Callable[[Job, Path], list[str]]
    """Given the job and a folder for jars and classes that is kept between runs."""
    rows: int
    quick_rows: int
    """Slow ones get a prefix of the events."""
    own: tuple[str, ...] = ()
    """Compacted topics, after the job's name, that it would make by itself and then, on a busy broker, not know yet."""


def _python(module: str) -> Callable[[Job, Path], list[str]]:
    def command(job: Job, kept: Path) -> list[str]:
        return [
            sys.executable, "-m", module, "--address", job.address, "--topic", job.topic, "--name", job.name,
            "--rows", str(job.rows), "--partitions", str(job.partitions), "--data", str(job.data), "--out", str(job.out),
        ]  # fmt: skip

    return command


def _kafka_streams(job: Job, kept: Path) -> list[str]:
    from app.broker import classpath, java

    path = classpath(STREAMS_JARS, kept / "jars")
    classes = kept / "classes"
    source = HERE / "kafka_streams" / "Work.java"
    if not (classes / "Work.class").exists() or (classes / "Work.class").stat().st_mtime < source.stat().st_mtime:
        compiler = classpath(COMPILER_JARS, kept / "jars")
        done = subprocess.run(
            [java(), "-jar", compiler, "-17", "-nowarn", "-cp", path, "-d", str(classes), str(source)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"Work.java does not compile:\n{(done.stderr or done.stdout)[-3000:]}")
    return [
        java(), "-Xmx1g", "--enable-native-access=ALL-UNNAMED", "-cp", f"{classes}:{path}", "Work",
        job.address, job.topic, job.name, str(job.data), str(job.rows), str(job.out),
    ]  # fmt: skip


PEERS: tuple[Peer, ...] = (
    Peer(
        "faust",
        "Faust 0.15.3, idiomatic (tables)",
        _python("bench.peers.faust_tables"),
        20_000,
        8_000,
        ("-groups-changelog", "-marks-changelog", "-users-changelog"),
    ),
    Peer("bytewax", "Bytewax 0.21, recovery into SQLite", _python("bench.peers.bytewax_flow"), 400_000, 150_000),
    Peer("kafka_streams", "Kafka Streams 4.1.1, RocksDB, 2 threads, 256 MB cache", _kafka_streams, 1_000_000, 300_000),
)

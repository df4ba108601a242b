"""Jars by their Maven coordinates, resolved and downloaded once by jgo (pure Python), then found again without a network."""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from hashlib import sha256
from pathlib import Path
from typing import Any

KAFKA_VERSION = "4.1.1"
"""Also the image's version in `compose/`."""
KAFKA = (f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}", "org.slf4j:slf4j-simple:1.7.36")
"""The broker, and a logging binding: without one it keeps silent, errors too."""

Progress = Callable[[str, int, int], None]
"""Told (what, done, total) while something takes time."""


class JarsUnavailable(RuntimeError):
    """The jars could not be had; the message says what to do."""


def quiet(what: str, done: int, total: int) -> None:
    """Progress that shows nothing."""


def classpath(coordinates: Sequence[str], cache: Path, progress: Progress = quiet) -> str:
    """A Java class path of `coordinates` (`group:artifact:version`) and all they need, cached under `cache`.

    Takes no network once it has been asked for the same coordinates. A download that was cut off starts anew.
    Raises `JarsUnavailable`.
    """
    name = sha256("\n".join(coordinates).encode()).hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two processes that ask at once, one downloads
        return _known(cache / name) or _fetched(coordinates, cache / name, progress)


def _known(home: Path) -> str | None:
    manifest = home / "classpath.json"
    if not manifest.exists():
        return None
    jars = [home / j for j in json.loads(manifest.read_text())["jars"]]
    return ":".join(str(j.resolve()) for j in jars) if all(j.exists() for j in jars) else None


def _fetched(coordinates: Sequence[str], home: Path, progress: Progress) -> str:
    partial = home.with_name(f"{home.name}.partial")
    for leftover in (partial, home):
        shutil.rmtree(leftover, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        found = _download(coordinates, partial, progress)
    except Exception as error:  # jgo raises whatever requests, XML or it itself raise
        raise JarsUnavailable(
            f"could not get {coordinates[0]} from Maven Central: {error}. "
            "Check the network and try again, or use a Kafka of your own: UPTAKE_KAFKA=host:port"
        ) from error
    listing = {"coordinates": list(coordinates), "jars": [str(j.relative_to(partial)) for j in found]}
    (partial / "classpath.json").write_text(json.dumps(listing, indent=1))
    partial.rename(home)
    return ":".join(str((home / j).resolve()) for j in listing["jars"])


def _download(coordinates: Sequence[str], repo: Path, progress: Progress) -> list[Path]:
    from jgo.maven import MavenContext

    logging.getLogger("jgo").setLevel(logging.ERROR)
    context = MavenContext(repo_cache=repo, timeout=60)
    progress("resolving", 0, 0)
    wanted = [context.create_dependency(_coordinate(c)) for c in coordinates]
    inputs, transitive = context.resolver.resolve(wanted)
    artifacts: list[Any] = [d.artifact for d in [*inputs, *transitive] if d.scope in ("compile", "runtime")]
    jars: dict[int, Path] = {}
    with ThreadPoolExecutor(6) as pool:
        waiting = {pool.submit(a.resolve): i for i, a in enumerate(artifacts)}
        try:
            for done, future in enumerate(as_completed(waiting), 1):
                index = waiting[future]
                jars[index] = future.result()
                progress(jars[index].name, done, len(artifacts))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [jars[i] for i in sorted(jars) if jars[i].suffix == ".jar"]


def _coordinate(text: str) -> Any:
    from dataclasses import replace

    from jgo.parse import Coordinate

    parsed = Coordinate.parse(text)
    return replace(parsed, scope=parsed.scope or "compile")

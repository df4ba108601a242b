"""`make audit`: the locked dependencies beside a list of advisories, in OSV's form. Reads files only; asks nobody on the network.

    python -m app.audit [--advisories PATH] [LOCK …]

The list is what osv.dev exports for PyPI (one JSON file an advisory, in a zip, in a folder, or one by one), named by
UPTAKE_ADVISORIES. An advisory that cannot be read, or a lock that pins nothing, is an error: an audit must not pass by looking away.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

VARIABLE = "UPTAKE_ADVISORIES"
FOUND, UNUSABLE, NONE_CONFIGURED = 1, 2, 3
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)


class AuditError(RuntimeError):
    """The audit cannot be made; the message names the next move."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A pinned package that an advisory is about."""

    package: str
    version: str
    advisory: str
    summary: str
    fixed: tuple[str, ...]

    def line(self) -> str:
        """For people."""
        move = f"fixed in {', '.join(self.fixed)}" if self.fixed else "no fixed version is known"
        return f"{self.package} {self.version}: {self.advisory} {self.summary} ({move})"


def pins(lock: str) -> set[tuple[str, str]]:
    """(package, version) of a lock's text; a universal lock may have two versions of one. Raises `AuditError` where there is none."""
    found: set[tuple[str, str]] = {(canonicalize_name(name), version) for name, version in _PIN.findall(lock)}
    if not found:
        raise AuditError("the lock pins nothing: give a file of name==version lines, such as requirements.lock")
    return found


def advisories(source: Path) -> Iterator[Mapping[str, Any]]:
    """Every advisory of a zip, a folder or a file. Raises `AuditError`."""
    texts: Iterable[tuple[str, bytes]]
    if source.is_dir():
        texts = ((str(path), path.read_bytes()) for path in sorted(source.rglob("*.json")))
    elif not source.is_file():
        raise AuditError(
            f"no file or folder {source}: {VARIABLE} names OSV's export for PyPI (a zip, a folder, or one file)"
        )
    elif zipfile.is_zipfile(source):
        texts = _zipped(source)
    else:
        texts = [(str(source), source.read_bytes())]
    for name, text in texts:
        try:
            body = json.loads(text)
        except ValueError as error:
            raise AuditError(f"{name} is no JSON ({error}): download the export again") from error
        for one in body if isinstance(body, list) else [body]:
            if not isinstance(one, dict) or "id" not in one:
                raise AuditError(f"{name} is no OSV advisory (it has no id): {VARIABLE} names OSV's export for PyPI")
            yield one


def audit(pinned: Iterable[tuple[str, str]], known: Iterable[Mapping[str, Any]]) -> tuple[list[Hit], int]:
    """What concerns the pins, and how many advisories were looked at. Withdrawn ones concern nobody."""
    versions: dict[str, list[str]] = {}
    for package, version in sorted(pinned):
        versions.setdefault(package, []).append(version)
    hits, seen = [], 0
    for advisory in known:
        seen += 1
        if advisory.get("withdrawn"):
            continue
        for affected in advisory.get("affected", ()):
            about = affected.get("package", {})
            name = canonicalize_name(str(about.get("name", "")))
            if about.get("ecosystem") != "PyPI":
                continue
            for version in versions.get(name, ()):
                if (fixed := _concerns(affected, version)) is not None:
                    summary = " ".join(str(advisory.get("summary") or advisory.get("details", ""))[:120].split())
                    hits.append(Hit(name, version, str(advisory["id"]), summary, fixed))
    return sorted(set(hits), key=lambda hit: (hit.package, hit.advisory)), seen


def _concerns(affected: Mapping[str, Any], version: str) -> tuple[str, ...] | None:
    """The versions that mend it, where this version is affected; else None."""
    mine = Version(version)
    fixed: list[str] = []
    hit = version in affected.get("versions", ())
    for span in affected.get("ranges", ()):
        if span.get("type") != "ECOSYSTEM":
            continue
        inside = False
        for event in sorted(span.get("events", ()), key=_moment):
            if "introduced" in event:
                inside = inside or _moment(event) <= mine
            elif "fixed" in event:
                fixed.append(str(event["fixed"]))
                inside = inside and not _moment(event) <= mine
            elif "last_affected" in event:
                inside = inside and not _moment(event) < mine
        hit = hit or inside
    return tuple(fixed) if hit else None


def _moment(event: Mapping[str, Any]) -> Version:
    text = str(event.get("introduced", event.get("fixed", event.get("last_affected", "0"))))
    try:
        return Version(text)
    except InvalidVersion:  # not PEP 440: OSV lists such versions one by one as well
        return Version("0")


def _zipped(source: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(source) as archive:
        for name in sorted(archive.namelist()):
            if name.endswith(".json"):
                yield f"{source}:{name}", archive.read(name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 nothing found, 1 findings, 2 the audit cannot be made, 3 no advisories are configured."""
    parser = argparse.ArgumentParser(prog="make audit", description="Locked dependencies against OSV advisories.")
    parser.add_argument("--advisories", type=Path, default=os.environ.get(VARIABLE) or None)
    parser.add_argument(
        "locks", nargs="*", type=Path, default=[Path("requirements.lock"), Path("requirements-dev.lock")]
    )
    given = parser.parse_args(arguments)
    if given.advisories is None:
        sys.stdout.write(
            f"no advisories are configured, so nothing was checked: set {VARIABLE} to OSV's export for PyPI (zip, folder or file)\n"
        )
        return NONE_CONFIGURED
    try:
        pinned: set[tuple[str, str]] = set()
        for lock in given.locks:
            if not lock.is_file():
                raise AuditError(f"no lock {lock}: make it with `make lock`")
            pinned |= pins(lock.read_text())
        hits, seen = audit(pinned, advisories(Path(given.advisories)))
        if not seen:
            raise AuditError(f"{given.advisories} holds no advisory: {VARIABLE} names OSV's export for PyPI")
    except AuditError as error:
        sys.stderr.write(f"audit: {error}\n")
        return UNUSABLE
    for hit in hits:
        sys.stdout.write(hit.line() + "\n")
    concerned = len({hit.package for hit in hits})
    sys.stdout.write(f"{len(pinned)} packages, {seen} advisories: {concerned} packages are concerned\n")
    return FOUND if hits else 0


if __name__ == "__main__":
    sys.exit(main())

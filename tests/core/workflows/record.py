"""Records golden histories: `python -m tests.core.workflows.record`. Only for new stories: an old one is how it was decided then."""

from __future__ import annotations

from pathlib import Path

import msgspec

from core.rulebook import trips
from core.workflows.jobs import Record
from core.workflows.testing import histories, travel
from schemas.definitions import DEFINITION

ROOT = Path(__file__).parents[3]
FOLDER = Path(__file__).parent / "histories"


class Golden(msgspec.Struct):
    """Definitions as they were, and the histories of a journey's runs."""

    workflows: list[dict[str, object]]
    runs: list[list[Record]]


def stories() -> dict[str, Golden]:
    """By file name, of every journey of the rulebook."""
    texts = {str(p): p.read_text() for p in sorted((ROOT / "rulebook").rglob("*.yaml"))}
    found = {}
    for trip in trips(texts):
        kept = [*histories(travel(trip.workflow, trip.others, trip.journey)).values()]
        if not kept:
            continue  # a journey in which nothing begins
        called = {name for history in kept for name in history[0].versions}
        needed = [trip.workflow, *(w for w in trip.others if w.name in called)]
        name = f"{trip.workflow.name}--{trip.journey.name.replace(' ', '-').replace(',', '')}.json"
        found[name] = Golden([DEFINITION.dump_python(w, mode="json") for w in needed], kept)
    return found


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, golden in stories().items():
        if not (FOLDER / name).exists():
            (FOLDER / name).write_bytes(msgspec.json.format(msgspec.json.encode(golden), indent=1) + b"\n")

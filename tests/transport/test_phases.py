"""What a process says it is doing can be read by others, and outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from app.chaos.aim import frozen_in, some, told
from transport.phases import RECORDS, Phase, PhaseReader, Phases


def test_others_read_what_is_said_and_the_last_word_stays(tmp_path: Path) -> None:
    phases = Phases(tmp_path / "run" / "meter-0")
    one, two = phases.of("meter|events|0"), phases.of("meter|events|1")
    reader = PhaseReader(tmp_path / "run" / "meter-0")
    one.set(Phase.COMMITTING)
    two.set(Phase.LOADING)
    assert reader.now() == {"meter|events|0": Phase.COMMITTING, "meter|events|1": Phase.LOADING}
    # Its successor's file is another one.
    Phases(tmp_path / "run" / "meter-0").of("meter|events|0").set(Phase.WORKING)
    assert reader.now()["meter|events|0"] == Phase.COMMITTING
    assert PhaseReader(tmp_path / "run" / "meter-0").now() == {"meter|events|0": Phase.WORKING}


def test_a_partition_that_comes_back_keeps_its_place_and_too_many_are_not_noted(tmp_path: Path) -> None:
    phases = Phases(tmp_path / "p")
    for n in range(RECORDS + 5):
        phases.of(f"r|g|{n}").set(Phase.WORKING)
    phases.of("r|g|3").set(Phase.GONE)
    found = PhaseReader(tmp_path / "p").now()
    assert len(found) == RECORDS and found["r|g|3"] == Phase.GONE and found["r|g|4"] == Phase.WORKING


PROCESS = """
import sys, time
from pathlib import Path
from transport.phases import Phase, Phases
mark = Phases(Path(sys.argv[1])).of("r|g|0")
while True:
    for phase in (Phase.WORKING, Phase.FILLING, Phase.OFFSETS, Phase.COMMITTING):
        mark.set(phase)
        time.sleep(0.003)
"""


def test_a_process_is_stopped_in_the_phase_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "phases"
    process = subprocess.Popen([sys.executable, "-c", PROCESS, str(path)], env=os.environ)
    try:
        while not path.exists():
            time.sleep(0.01)
        reader = PhaseReader(path)
        for wanted in (Phase.FILLING, Phase.OFFSETS, Phase.COMMITTING):
            found, hit = frozen_in(process.pid, reader, some(frozenset({wanted})), 30.0)
            assert hit and found == {"r|g|0": wanted}
            assert told(found) == f"{wanted.name.lower()} of r|g|0"
            os.kill(process.pid, signal.SIGCONT)
        found, hit = frozen_in(process.pid, reader, some(frozenset({Phase.LOADING})), 0.05)
        assert not hit and found
        # Killed while it stands, it has said its last word.
        process.kill()
        process.wait()
        assert reader.now() == found
    finally:
        process.kill()
        process.wait()

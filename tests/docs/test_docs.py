"""Every promise of the docs that can be checked without running anything: links, make targets, commands, YAML blocks."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from app.cli.root import build
from app.trying import try_all
from core.rulebook import load_rulebook

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/runbooks/*.md"), *ROOT.glob("rulebook/*.md")]
)
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)


def blocks(*languages: str) -> list[tuple[str, str]]:
    return [
        (f"{page.relative_to(ROOT)}:{page.read_text()[: m.start()].count(chr(10)) + 1}", m.group(2))
        for page in PAGES
        for m in BLOCK.finditer(page.read_text())
        if m.group(1) in languages
    ]


def lines_of(block: str) -> list[str]:
    """Shell lines, continued ones joined, here-documents left out."""
    block = re.sub(r"<<'?(\w+)'?.*?^\1$", "", block, flags=re.M | re.S).replace("\\\n", " ")
    return [line.strip() for line in block.splitlines() if line.strip() and not line.strip().startswith("#")]


COMMANDS = [
    (where, line)
    for where, block in blocks("sh", "bash", "console", "")
    for line in lines_of(block)
    if re.search(r"(^|/|\s)uptake\s", line)
]


def test_there_are_pages_and_commands() -> None:
    assert len(PAGES) >= 8
    assert len(COMMANDS) >= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize(("where", "line"), COMMANDS, ids=[f"{w} {c[:50]}" for w, c in COMMANDS])
def test_commands_exist_with_these_options(where: str, line: str) -> None:
    words = shlex.split(re.split(r"\s[|>&;]|\s#", line[re.search(r"(^|/|\s)uptake\s", line).start() :])[0])  # type: ignore[union-attr]
    command: Any = get_command(build())
    words = words[1:]
    while words and words[0] in getattr(command, "commands", ()):
        command = command.commands[words.pop(0)]
    assert not hasattr(command, "commands") or not words or words[0].startswith("-"), (
        f"{where}: no command {words[0]!r} in: {line}"
    )
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help"
    }
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in known, f"{where}: {word} in: {line}"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {
        (w, t) for w, b in blocks("sh", "bash") for line in lines_of(b) for t in re.findall(r"^make ([a-z-]+)", line)
    }
    assert named
    assert {t for _, t in named} <= targets


@pytest.mark.parametrize(("where", "text"), [b for b in blocks("yaml") if b[1].startswith("definitions:")])
def test_definitions_in_the_docs_hold(where: str, text: str) -> None:
    assert load_rulebook({where: text})


@pytest.mark.parametrize(("where", "text"), [b for b in blocks("yaml") if b[1].startswith("definitions:")])
def test_tests_in_the_docs_pass(where: str, text: str) -> None:
    assert [t for t in try_all({where: text}) if t.failure is not None] == []


def test_every_block_of_the_guide_to_workflows_is_one_that_is_tried() -> None:
    found = [(w, text) for w, text in blocks("yaml") if w.startswith("docs/workflows.md")]
    assert len(found) >= 4
    for where, text in found:
        assert text.startswith("definitions:") and len(list(try_all({where: text}))) >= 2, where


def test_help_lists_what_ci_runs() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("setup", "run", "test", "check", "bench", "generate"):
        assert f"make {target}" in listed

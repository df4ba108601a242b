"""`uptake plan`: each bad input refused with file, line, path and reason, and an exit code that CI sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli.common import BAD_INPUT, Refusal
from app.cli.root import build
from core.rulebook import RulebookError, load_rulebook, read_rulebook

GOOD = """\
definitions:
  - kind: rule
    name: x
    id: x
    trigger: {kind: event, topic: events.usage, where: 'feature == "export"'}
    when: 'has(account) && properties.seats > 5'
    command:
      type: product.note.write
      title: "{{ user }} exported"
      text: "{{ reason }}"
      payload: {seats: "{{ properties.seats }}"}
"""


def planned(tmp_path: Path, text: str, *options: str) -> tuple[int, list[str]]:
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    result = CliRunner().invoke(build("plan"), ["plan", str(file), *options])
    if isinstance(result.exception, Refusal):
        return result.exception.code, result.stdout.replace(str(tmp_path) + "/", "").splitlines()
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout.replace(str(tmp_path) + "/", "").splitlines()


def test_what_is_well_is_told(tmp_path: Path) -> None:
    assert planned(tmp_path, GOOD) == (0, [])
    result = CliRunner().invoke(build("plan"), ["plan", str(tmp_path / "rules.yaml"), "--show"])
    assert "rule x when has(account) && properties.seats > 5" in result.output


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


SCHEDULE = "trigger: {kind: schedule, cron: "
BAD = {
    "unknown key": (changed("    id: x\n", "    id: x\n    typo: 1\n"), 5, "typo", "Extra inputs"),
    "unknown kind": (changed("kind: event", "kind: evnt"), 5, "trigger", "evnt"),
    "unknown fact": (changed("has(account)", "has(acount)"), 6, "condition", "did you mean account?"),
    "unknown fact of the trigger": (changed("feature ==", "featur =="), 5, "trigger.where.field", "did you mean feature?"),
    "syntax": (changed("seats > 5", "seats >> 5"), 6, "when", "line 1, column 35: '>' cannot stand here"),
    "type": (changed('feature == "export"', "feature == 5"), 5, "trigger.where.value", "it is a text, never a number"),
    "type of a list": (changed('feature == "export"', 'feature in ["a", 5]'), 5, "trigger.where.value", "never a number"),
    "null": (changed("has(account)", "account == null"), 6, "condition", "has()"),
    "template syntax": (changed("{{ user }} exported", "{{ user"), 9, "command.title", "unexpected end"),
    "template name": (changed("{{ user }} exported", "{{ usr }} exported"), 9, "command.title", "did you mean user?"),
    "payload name": (changed("{{ properties.seats }}", "{{ propertis.seats }}"), 11, "command.payload.seats", "properties?"),
    "never due": (changed("trigger: {kind: event, topic: events.usage, where: 'feature == \"export\"'}",
                          SCHEDULE + '"0 0 30 2 *"}'), 5, "trigger", "day-of-month"),
    "never due, RRULE": (changed("trigger: {kind: event, topic: events.usage, where: 'feature == \"export\"'}",
                                 "trigger: {kind: schedule, rrule: 'FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30'}"),
                         5, "trigger", "never due"),
    "no zone": (changed("trigger: {kind: event, topic: events.usage, where: 'feature == \"export\"'}",
                        SCHEDULE + '"0 9 * * *", zone: Mars/Base}'), 5, "trigger.schedule.zone", "IANA"),
    "bomb": (changed("has(account) &&", "!" * 5_000 + "x &&"), 6, "when", "of one sign"),
    "bomb of brackets": (changed("has(account) &&", "(" * 2_000), 6, "when", "nest deeper"),
    "10 MB": (changed("export", "x" * 10_000_000), 1, "", "split the file"),
    "wait without an end": (changed("{kind: event, topic: events.usage, where: 'feature == \"export\"'}",
                                    "{kind: absence, first: {topic: events.usage}, then: {topic: events.usage}}"),
                            5, "within_s", "Field required"),
    "not YAML": ("definitions: [", 1, "", "not YAML"),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_input_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    text, line, path, reason = BAD[name]
    code, told = planned(tmp_path, text)
    assert code == BAD_INPUT
    found = [t for t in told if reason in t]
    assert found, told
    assert found[0].startswith(f"rules.yaml:{line}: error: ") and path in found[0]
    with pytest.raises(RulebookError):
        load_rulebook({"rules.yaml": text})


def test_findings_as_json(tmp_path: Path) -> None:
    code, told = planned(tmp_path, BAD["type"][0], "--json")
    (found,) = map(json.loads, told)
    assert code == BAD_INPUT and found["line"] == 5 and found["level"] == "error"
    assert found["path"] == "definitions[0].trigger.where.value"


def test_senders_own_fields_are_worth_a_look_only(tmp_path: Path) -> None:
    text = changed("has(account)", "has(favourite_colour)")
    code, told = planned(tmp_path, text)
    assert code == 0 and len(told) == 1 and "warning" in told[0] and ":6:" in told[0]
    assert planned(tmp_path, text, "--strict")[0] == BAD_INPUT


DETECTION = """\
definitions:
  - kind: rule
    name: {name}
    id: {name}
    trigger: {{kind: band, bands: [critical]}}
    condition: {condition}
    command: {{type: {type}, title: "{{{{ band }}}}", text: "{{{{ reason }}}}"}}
"""


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("'score < 20 && components.reliability < 0.5'", None),
        ("'users > 5'", "no fact 'users'"),
        ("'band == \"awful\"'", "one of no_data, critical"),
        ('\'band.startsWith("c") && score.contains("x")\'', "never a text"),
        ("'score > \"5\"'", "never a text"),
        ("{kind: during, field: band, weekdays: [mon]}", "a number is asked for"),
        ("{kind: compare, field: score, op: in, value: 5}", "takes a list"),
        ("{kind: compare, field: score, op: '<'}", "have an order"),
        ("{kind: compare, field: band, op: '==', value: [critical]}", "write `in`"),
    ],
)
def test_facts_of_detections(tmp_path: Path, condition: str, reason: str | None) -> None:
    text = DETECTION.format(name="a", condition=condition, type="product.note.write")
    code, told = planned(tmp_path, text)
    if reason is None:
        assert (code, told) == (0, [])
    else:
        assert code == BAD_INPUT and reason in told[0] and told[0].startswith("rules.yaml:6: error"), told


def test_opposites_are_told(tmp_path: Path) -> None:
    one = DETECTION.format(name="a", condition="null", type="engineering.rollout.pause")
    two = DETECTION.format(name="b", condition="null", type="engineering.rollout.resume").removeprefix("definitions:\n")
    code, told = planned(tmp_path, one + two)
    assert code == 0 and "orders resume of engineering.rollout where rule a orders pause" in told[0]
    same = DETECTION.format(name="b", condition="null", type="engineering.rollout.pause").removeprefix("definitions:\n")
    assert "one of them is enough" in planned(tmp_path, one + same)[1][0]


FLOW = """\
  - kind: workflow
    name: flow
    id: flow
    trigger: {kind: band, bands: [critical]}
    start: a
    nodes:
      - {kind: act, id: a, command: {type: TYPE, title: t, text: t}, undo: {type: UNDO, title: t, text: t}}
"""


@pytest.mark.parametrize(
    ("type_", "undo", "told"),
    [
        ("rollout.pause", "rollout.x", True),
        ("rollout.x", "rollout.pause", False),
        ("rollout.resume", "rollout.pause", False),
    ],
)
def test_opposites_of_a_workflow_are_told_but_not_what_it_takes_back(
    tmp_path: Path, type_: str, undo: str, told: bool
) -> None:
    one = DETECTION.format(name="a", condition="null", type="engineering.rollout.resume")
    flow = FLOW.replace("TYPE", f"engineering.{type_}").replace("UNDO", f"engineering.{undo}")
    code, lines = planned(tmp_path, one + flow)
    assert code == 0 and len(lines) == told
    if told:
        assert "nodes: orders pause of engineering.rollout where rule a orders resume" in lines[0]


LOOP = (
    GOOD
    + """\
  - kind: connection
    name: out
    integration: kafka
    config: {topic: theirs}
    types: [product.*]
  - kind: source
    name: back
    topic: theirs
    target: events.usage
    fields: {user: subject}
    constants: {feature: FEATURE}
"""
)


@pytest.mark.parametrize(
    ("text", "loops"),
    [
        (LOOP.replace("FEATURE", "export"), True),
        (LOOP.replace("FEATURE", "import"), False),
        (LOOP.replace("FEATURE", "export").replace("product.*", "success.*"), False),
        (
            LOOP.replace("FEATURE", "export").replace(
                "topic: theirs\n    target", "topic: commands.product\n    target"
            ),
            True,
        ),
        (LOOP.replace("FEATURE", "export").replace("topic: theirs\n    target", "topic: another\n    target"), False),
        (LOOP.replace("FEATURE", "export").replace("events.usage\n", "events.performance\n"), False),
    ],
)
def test_commands_that_come_back(tmp_path: Path, text: str, loops: bool) -> None:
    code, told = planned(tmp_path, text)
    assert code == (BAD_INPUT if loops else 0)
    if loops:
        assert (
            told[0].startswith("rules.yaml:8: error: definitions[0].command.type")
            and "source back → events.usage → rule x" in told[0]
        )


def test_a_loop_over_two_rules_is_told_once() -> None:
    second = GOOD.removeprefix("definitions:\n").replace("name: x", "name: y").replace("id: x", "id: y")
    first = GOOD.replace("product.note.write", "success.note.write")
    back = "  - {kind: source, name: s, topic: commands.success, target: events.performance, fields: {user: subject}}\n"
    back += "  - {kind: source, name: t, topic: commands.product, target: events.usage, fields: {user: subject}}\n"
    second = second.replace("events.usage", "events.performance").replace(
        "where: 'feature == \"export\"'", "where: 'status == 5'"
    )
    _, problems = read_rulebook({"f": first + second + back})
    (found,) = [p for p in problems if p.level == "error"]
    assert (
        "rule x → commands.success → source s" in found.reason
        and "rule y → commands.product → source t" in found.reason
    )


def test_our_own_rulebook_is_well() -> None:
    result = CliRunner().invoke(build("plan"), ["plan", "--strict"])
    assert result.exit_code == 0 and not isinstance(result.exception, Refusal), result.output

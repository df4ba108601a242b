"""Time of day inside a workflow: `during` without a field asks for the moment of the node."""

from __future__ import annotations

import pytest

from core.rulebook import trips
from core.workflows.testing import Failed, travel

FILE = """definitions:
  - kind: workflow
    name: w
    id: w
    trigger: {kind: event, topic: events.usage}
    start: when
    nodes:
      - kind: branch
        id: when
        paths: [{when: {kind: during, start: "00:00", end: "END"}, next: inside}]
        otherwise: outside
      - kind: act
        id: inside
        command: {type: sales.inside.create, title: t, text: t}
      - kind: act
        id: outside
        command: {type: sales.outside.create, title: t, text: t}
    tests:
      - name: one
        steps:
          - event: {type: feature.used, user: ann}
          - expect: [sales.inside.create]
"""


def test_a_node_knows_the_time() -> None:
    [whole_day] = trips({"f.yaml": FILE.replace("END", "00:00")})
    travel(whole_day.workflow, whole_day.others, whole_day.journey)
    [never] = trips({"f.yaml": FILE.replace('"00:00", end: "END"', '"00:00", end: "00:01", zone: Asia/Kathmandu')})
    with pytest.raises(Failed, match=r"sales\.outside\.create"):
        travel(never.workflow, never.others, never.journey)

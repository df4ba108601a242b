"""Which definition a question is about."""

from __future__ import annotations

import pytest

from app.why import CannotTell
from app.why.ask import ids_of, named
from core.definitions import Catalogue
from tests.core.workflows.build import act, workflow


def test_a_retired_workflow_is_asked_about_where_nothing_of_its_name_is_in_force() -> None:
    catalogue = Catalogue()
    catalogue.put(workflow(act("a"), id="W1", retired="finish", tenant="acme"))
    assert named(catalogue, "acme", "W1").tenant == "acme"
    assert ids_of(catalogue, "acme", "W1") == ["W1", "w"]
    with pytest.raises(CannotTell, match="no rule or workflow"):
        named(catalogue, "other", "W1")
    catalogue.put(workflow(act("a"), id="W1"))
    assert named(catalogue, "acme", "W1").tenant == "all", "what is in force comes first"

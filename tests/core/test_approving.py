"""Approval: what waits, who decides, and that nothing acts on what waits."""

from __future__ import annotations

import pytest

from core.approving import NotPending, decided, find, pending, proposal, waits
from core.definitions import Catalogue
from schemas.definitions import Policy, Rule, Workflow
from tests.core.workflows.build import act, workflow


def a_catalogue(*kinds: str, tenant: str = "acme") -> Catalogue:
    catalogue = Catalogue()
    catalogue.put(Policy.model_validate({"tenant": tenant, "name": "approvals", "approval": list(kinds)}))
    return catalogue


FLOW = workflow(act("a")).model_copy(update={"tenant": "acme"})


def test_a_tenants_own_policy_comes_before_everybodys() -> None:
    assert waits(a_catalogue("workflow"), FLOW) and not waits(a_catalogue("rule"), FLOW)
    assert not waits(Catalogue(), FLOW)
    everybodys = a_catalogue("workflow", tenant="all")
    assert waits(everybodys, FLOW)
    everybodys.put(Policy(tenant="acme", name="approvals"))
    assert not waits(everybodys, FLOW)
    assert not waits(a_catalogue("workflow", tenant="other"), FLOW)


def test_what_waits_is_no_definition_in_force_until_somebody_else_approves_it() -> None:
    catalogue = a_catalogue("workflow")
    made = proposal(FLOW, "ann", 5)
    catalogue.put(made)
    assert catalogue.of(Workflow) == [] and catalogue.of(Rule) == []
    assert pending(catalogue, "acme") == [made] == pending(catalogue, None) and pending(catalogue, "other") == []
    found = find(catalogue, "acme", "workflow:w")
    with pytest.raises(NotPending, match="ann proposed it"):
        decided(found, True, "ann", 6)
    record, flow = decided(found, True, "bob", 6, "fine")
    assert flow == FLOW
    for one in (record, flow):
        catalogue.put(one)
    assert catalogue.of(Workflow) == [FLOW] and pending(catalogue, None) == []
    with pytest.raises(NotPending, match="what does: nothing"):
        find(catalogue, "acme", "workflow:w")


def test_a_rejected_one_stays_on_record_only() -> None:
    catalogue = a_catalogue("workflow")
    catalogue.put(proposal(FLOW, "ann", 5))
    (record,) = decided(find(catalogue, "acme", "workflow:w"), False, "ann", 6, "not now")
    assert (record.status, record.decided_by, record.reason) == ("rejected", "ann", "not now")  # type: ignore[union-attr]

"""A product that nobody defined has the defaults, whatever its name: an event may not stop its reader."""

from __future__ import annotations

import pytest

from core.definitions import Catalogue
from schemas.definitions import Product


@pytest.mark.parametrize("name", ["shop", "My Shop", "a/b", "ü" * 256, ""])
def test_any_name_has_the_defaults(name: str) -> None:
    found = Catalogue().product("acme", name)
    assert (found.tenant, found.name) == ("acme", name)
    assert found.model_dump(exclude={"name"}) == Product(tenant="acme", name="x").model_dump(exclude={"name"})

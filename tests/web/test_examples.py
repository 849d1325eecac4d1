"""Every operation that is sent something says so by an example, which it would take."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from pydantic import TypeAdapter

from heedful.web.app import ROUTES
from heedful.web.examples import EXAMPLES


def bodies() -> dict[str, Any]:
    """Operation → the field of its JSON body."""
    routers = [importlib.import_module(f"heedful.web.routes.{name}").router for name in ROUTES]
    return {
        f"{verb} {route.path}": route.body_field
        for router in routers
        for route in router.routes
        for verb in getattr(route, "methods", None) or ()
        if getattr(route, "body_field", None) is not None
    }


def test_every_body_has_an_example(app: Any):
    """Mutations caught: a new operation without one; an example of an operation that is gone; one that does not fit."""
    wanted = bodies()
    assert set(EXAMPLES) == set(wanted)
    described = app.openapi()["paths"]
    for name, example in EXAMPLES.items():
        verb, path = name.split(" ")
        body = described[path][verb.lower()]["requestBody"]["content"]["application/json"]
        assert body["example"] == example
        field = wanted[name].field_info
        kind = TypeAdapter(field.annotation)
        value = kind.validate_python(example, extra="forbid")
        with pytest.raises(ValueError):
            kind.validate_python("no mapping")
        assert value is not None

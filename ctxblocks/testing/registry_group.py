"""Group *registry*: the layer's specification, and building the layer by name."""

import attrs
import torch
from hypothesis import strategies as st

from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.registration.registry import create, registry
from ctxblocks.testing.cases import Case, Conformance


def builds(case: Case, data: st.DataObject) -> None:
    """Every example configuration builds a layer in torch's default dtype, and so does `create` with the same fields."""
    made = create(
        case.spec.name, **{f.alias: getattr(case.config, f.name) for f in attrs.fields(type(case.config)) if f.init}
    )
    for layer in (case.spec.build(case.config), made):
        assert isinstance(layer, ContextualLayer)
        assert {p.dtype for p in layer.parameters()} <= {torch.get_default_dtype()}
    shapes = [(name, part.shape) for name, part in made.state_dict().items()]
    assert shapes == [(name, part.shape) for name, part in case.layer.state_dict().items()]


def test_builds(conformance: Conformance) -> None:
    conformance.check(builds)


def config_frozen(case: Case, data: st.DataObject) -> None:
    """The configuration is frozen, and `width` is its only required field."""
    try:
        case.config.width = case.config.width
    except attrs.exceptions.FrozenInstanceError:
        assert case.spec.config(width=case.config.width).width == case.config.width
    else:
        raise AssertionError(f"{type(case.config).__name__} can be changed; define it with attrs.frozen")


def test_config_frozen(conformance: Conformance) -> None:
    conformance.check(config_frozen)


def test_named(conformance: Conformance) -> None:
    """The layer is registered under its name by one plugin, and its summary is one line."""
    known, spec = registry(), conformance.spec
    assert known.layers[spec.name] == spec
    assert known.providers[spec.name] in known.plugins
    assert spec.name not in known.clashes
    assert spec.summary.strip(), "the summary is empty"
    assert len(spec.summary.splitlines()) == 1, "the summary has more than one line"

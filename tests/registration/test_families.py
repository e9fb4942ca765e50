"""Families of language models in the registry: found by model type, one provider each, and checked when they are made."""

import types
from typing import Any

import pytest

from ctxblocks import ArgumentError, BlockSpec, FamilySpec, PluginError, hookimpl
from ctxblocks.registration.registry import Registry

BLOCK = BlockSpec(wiring="mixer-only", mixer="mixer", projection="mixer.out_proj")


def family(name: str, models: Any) -> FamilySpec:
    return FamilySpec(name=name, models=models, layers="layers", blocks=(BLOCK,))


def plugin(name: str, *families: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.ctxblocks_families = hookimpl(lambda: list(families))  # type: ignore[attr-defined]
    return made


def test_a_family_is_found_by_its_model_types() -> None:
    """By each of them, and by no other; families do not show among the layers."""
    registry = Registry()
    registry.register(plugin("p", family("b", ("x", "y")), family("a", "z")))
    assert [registry.family(name).name for name in "xyz"] == ["b", "b", "a"]  # type: ignore[union-attr]
    assert registry.family("w") is None
    assert [(name, spec.name) for name, spec in registry.families.items()] == [("x", "b"), ("y", "b"), ("z", "a")]
    assert not registry.layers


def test_two_providers_of_a_model_type_are_named() -> None:
    """Neither gets it."""
    registry = Registry()
    registry.register(plugin("one", family("a", "x")))
    registry.register(plugin("two", family("b", ("x", "y"))))
    with pytest.raises(
        PluginError, match=r"^family of 'x': the plugins 'one' and 'two' both provide it; leave one out"
    ):
        registry.family("x")
    assert registry.family("y") is not None
    assert list(registry.families) == ["y"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((BLOCK,), "its hook ctxblocks_families returned a list that holds BlockSpec.*, needs FamilySpec objects only"),
        ((family("a", "x"), family("a", "y")), "provides the family 'a' twice"),
    ],
)
def test_what_is_no_family_is_refused(given: tuple[Any, ...], message: str) -> None:
    """Another object, or one name twice."""
    with pytest.raises(PluginError, match=message):
        Registry().register(plugin("bad", *given))


def test_an_unknown_wiring_is_refused() -> None:
    """With the known ones."""
    with pytest.raises(ArgumentError, match="got the wiring 'pre', needs one of 'pre-norm', 'sandwich'"):
        BlockSpec(wiring="pre")

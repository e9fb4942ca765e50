"""Tests of the suite: each fault fails the property meant for it, and correct layers pass every property."""

from collections.abc import Callable

import pytest
from testing import faulty_layers as layers, faulty_states as states

from ctxblocks import LayerSpec
from ctxblocks.testing import (
    claims as _claims,
    contract as _contract,
    contract_fast as _contract_fast,
    contract_state as _contract_state,
    registry_group as _registry_group,
    suite,
    theorem as _theorem,
)
from ctxblocks.testing.cases import Conformance

pytestmark = pytest.mark.usefixtures("first_failure")

GROUPS = (_contract, _contract_fast, _contract_state, _claims, _registry_group)
PROPERTIES: dict[str, Callable[[Conformance], None]] = {
    name.removeprefix("test_"): test
    for group in GROUPS
    for name, test in vars(group).items()
    if name.startswith("test_")
}
HONEST = layers.spec(traits=layers.claiming(positional=True))
CROSS = layers.spec(layers.Cross, traits=layers.claiming(positional=True))
TWINS = {  # correct layers that make the other claims
    "permutation_invariant": layers.spec(layers.Orderless, traits=layers.claiming(permutation_invariant=True)),
    "additive": layers.spec(layers.Additive, traits=layers.claiming(additive=True)),
    "windowed": layers.spec(layers.Windowed, traits=layers.claiming(windowed=2)),
}

FAULTS: dict[str, tuple[LayerSpec, str]] = {  # by fault: a layer, and the property that has to fail
    "ignores the context": (layers.spec(layers.IgnoresContext), "sees_context"),
    "mixes batch elements": (layers.spec(layers.MixesBatch), "batch_elements"),
    "remembers earlier calls": (layers.spec(layers.Remembers), "no_memory"),
    "mutates its input": (layers.spec(layers.MutatesContext), "arguments_unmodified"),
    "counts its calls in a buffer": (layers.spec(layers.CountsCalls), "arguments_unmodified"),
    "dropout left on": (layers.spec(layers.DropsOut), "modes"),
    "prefixes off by one": (layers.spec(layers.PrefixesOffByOne), "prefixes"),
    "suffixes off by one": (layers.spec(layers.SuffixesOffByOne), "suffixes"),
    "sequence sees its own token twice": (layers.spec(layers.SequenceSeesItself), "sequence"),
    "causal looks ahead": (layers.spec(layers.LooksAhead), "causality"),
    "causal is not its definition": (layers.spec(layers.LooksAhead), "causal"),
    "causal cuts the gradient": (layers.spec(layers.CutsGradient), "causal"),
    "causal forgets beyond a chunk": (layers.spec(layers.ForgetsBeyond64), "long_contexts"),
    "wrong dtype out": (layers.spec(layers.WrongDtype), "dtype_and_device"),
    "one axis too many": (layers.spec(layers.KeepsAxis), "output_shape"),
    "breaks on zero tokens": (layers.spec(layers.BreaksOnNoTokens), "zero_tokens"),
    "non-deterministic": (layers.spec(layers.Random), "repeatable"),
    "gradient not finite at zero": (layers.spec(layers.GradientAtZero), "gradients_finite"),
    "another function without gradients": (layers.spec(layers.OtherWithoutGradients), "without_gradients"),
    "takes memory for contiguous": (layers.spec(layers.ReadsMemory), "strides"),
    "state outside the state dict": (layers.spec(layers.HidesState), "state_round_trip"),
    "copies share parameters": (layers.spec(states.SharesCopies), "copies"),
    "state shrinks": (layers.spec(states.StateShrinks), "state_size"),
    "state below zero": (layers.spec(states.StateBelowZero), "state_size"),
    "state not an integer": (layers.spec(states.StateNotAnInteger), "state_size"),
    "state depends on the mode": (layers.spec(states.StateOfMode), "state_size"),
    "state depends on the mode, built in eval": (layers.spec(lambda c: states.StateOfMode(c).eval()), "state_size"),
    "state depends on the dtype": (layers.spec(states.StateOfDtype), "state_size"),
    "state of fewer than no tokens": (layers.spec(states.StateUnchecked), "state_size"),
    "no check of shapes": (layers.spec(layers.Unchecked), "wrong_shapes"),
    "sequence of a cross-attention": (layers.spec(layers.CrossSequence), "wrong_shapes"),
    "converts dtypes": (layers.spec(layers.Converts), "wrong_dtypes"),
    "not the configured width": (layers.spec(layers.OtherWidth), "widths"),
    "claims permutation invariance": (
        layers.spec(traits=layers.claiming(permutation_invariant=True)),
        "permutation_invariant",
    ),
    "claims additivity": (layers.spec(traits=layers.claiming(additive=True)), "additive"),
    "claims a window": (layers.spec(traits=layers.claiming(windowed=2)), "windowed"),
    "claims positions": (layers.spec(layers.Orderless, traits=layers.claiming(positional=True)), "positional"),
    "builds in float64": (layers.spec(lambda config: layers.Honest(config).double()), "builds"),
    "configuration not frozen": (layers.spec(config=layers.MutableConfig), "config_frozen"),
    "summary of two lines": (layers.spec(summary="a layer\nof mine"), "named"),
}


def run(name: str, spec: LayerSpec, examples: int = 50) -> None:
    """Run one property on one layer, which is registered meanwhile."""
    test, conformance = PROPERTIES[name], Conformance(spec=spec, max_examples=examples)
    for marker in getattr(test, "pytestmark", []):
        claiming = conformance.claiming(marker.args[0])
        if claiming is None:
            pytest.skip(f"not applicable: the layer does not claim {marker.args[0]}")
        conformance = claiming
    with layers.registered(spec):
        test(conformance)


@pytest.mark.parametrize(("spec", "name"), FAULTS.values(), ids=FAULTS)
def test_fault(spec: LayerSpec, name: str) -> None:
    """The property meant for a fault fails."""
    with pytest.raises((AssertionError, RuntimeError, TypeError)) as caught:
        run(name, spec)
    print(caught.value)


@pytest.mark.parametrize("name", PROPERTIES)
def test_honest(name: str) -> None:
    """No property fails on a correct layer."""
    run(name, TWINS.get(name, HONEST))


@pytest.mark.parametrize("name", sorted(PROPERTIES.keys() - TWINS.keys()))
def test_honest_cross_attention(name: str) -> None:
    """No property fails on a correct layer whose tokens and queries differ in width."""
    run(name, CROSS, examples=10)


def test_every_property_has_a_fault() -> None:
    """Each property of these groups has a fault that it detects."""
    assert {name for _, name in FAULTS.values()} == PROPERTIES.keys()


def test_all_groups_are_in_the_suite() -> None:
    """A star import gives every test of every group, and no two groups share a name."""
    names = [name for group in (*GROUPS, _theorem) for name in vars(group) if name.startswith("test_")]
    assert sorted(names) == sorted(suite.__all__)

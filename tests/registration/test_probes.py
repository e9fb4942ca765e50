"""Probes in the registry, and the bundled ones on the dynamics of a prompt."""

import types
from typing import Any

import pytest
import torch

import ctxblocks
from ctxblocks import MLP, ArgumentError, PlainBlock, PluginError, Probe, ResidualBlock, dynamics, hookimpl, registry
from ctxblocks.registration.registry import Registry


def probe(name: str) -> Probe:
    return Probe(name=name, summary="nothing", measure=lambda each: 0.0)


def plugin(name: str, *probes: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    made.ctxblocks_probes = hookimpl(lambda: list(probes))  # type: ignore[attr-defined]
    return made


def test_probes_are_sorted_and_read_only() -> None:
    """Whoever provides them."""
    made = Registry()
    made.register(plugin("p", probe("b"), probe("d")))
    made.register(plugin("q", probe("c"), probe("a")))
    assert list(made.probes) == ["a", "b", "c", "d"]
    assert made.probe("c").name == "c"
    with pytest.raises(TypeError):
        made.probes["e"] = probe("e")  # type: ignore[index]


def test_two_providers_are_named() -> None:
    """Neither gets the name, and the rest is there."""
    made = Registry()
    made.register(plugin("one", probe("a")))
    made.register(plugin("two", probe("a"), probe("b")))
    with pytest.raises(PluginError, match=r"^probe 'a': the plugins 'one' and 'two' both provide it; leave one out"):
        made.probe("a")
    assert list(made.probes) == ["b"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("norm",), "its hook ctxblocks_probes returned a list that holds 'norm', needs Probe objects only"),
        ((probe("a"), probe("a")), "provides the probe 'a' twice"),
    ],
)
def test_what_is_no_probe_is_refused(given: tuple[Any, ...], message: str) -> None:
    """Another object, or one name twice."""
    with pytest.raises(PluginError, match=message):
        Registry().register(plugin("bad", *given))


def test_unknown_probes_and_wrong_names() -> None:
    """With those that are known, and with an example."""
    with pytest.raises(ArgumentError, match="probe: got 'a', needs one of none"):
        Registry().probe("a")
    with pytest.raises(
        ArgumentError, match="Probe: got the name 'My Probe', needs lower case with hyphens, such as 'm"
    ):
        probe("My Probe")


@pytest.mark.parametrize("block", [PlainBlock, ResidualBlock])
def test_bundled_probes_measure_a_prompt_s_dynamics(block: Any) -> None:
    """One number for each prefix, or for each step to the next; `marginal-change` is `Dynamics.marginal_norms`."""
    torch.manual_seed(0)
    layer = ctxblocks.create("self-attention", width=4, heads=1)
    found = dynamics(block(layer, MLP(4, 8)).double(), torch.randn(2, 4).double(), torch.randn(2, 5, 4).double())
    values = {name: one.measure(found).detach() for name, one in registry().probes.items() if one.needs == "updates"}
    steps = dict.fromkeys(("alignment", "commutator", "marginal-change"), (2, 5))
    assert {name: tuple(value.shape) for name, value in values.items()} == dict.fromkeys(values, (2, 6)) | steps
    assert {"alignment", "determinant", "marginal-change", "norm", "shift-norm"} <= set(values)
    torch.testing.assert_close(values["marginal-change"], found.marginal_norms())
    # Without a token two ways of computing the same read are apart by its round-off, u‖z‖, which the key divides by ‖z‖.
    size = max(float(each.detach().norm(dim=-1).max()) for each in (found.base.z, found.weights()[0].flatten()))
    nothing = 32 * 2.0**-53 * size
    assert float((values["determinant"][..., 0] - 1).abs().max()) <= nothing
    for name in ("norm", "shift-norm"):
        assert float(values[name][..., 0].abs().max()) <= nothing
        assert float(values[name][..., 1:].abs().max()) > 1e6 * nothing or isinstance(found.block, PlainBlock)
    assert float(values["marginal-change"].max()) > 1e6 * nothing
    assert (float(values["shift-norm"].max()) > 0) == (block is ResidualBlock)


def test_a_probe_says_what_it_needs() -> None:
    """Updates, or a trial."""
    assert probe("a").needs == "updates"
    with pytest.raises(ArgumentError, match="Probe 'a': got needs='block', needs 'updates' or 'trial'"):
        Probe(name="a", summary="", measure=lambda each: 0.0, needs="block")  # type: ignore[arg-type]

"""Group *contract*, state: a layer keeps nothing but its parameters and buffers."""

import copy

import safetensors.torch
import torch
from hypothesis import strategies as st
from torch import Tensor

from ctxblocks.base.errors import ArgumentError
from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.testing.cases import Case, Conformance
from ctxblocks.testing.contract_rule import assert_close, assert_same, drawn, forward, judge, methods


def repeatable(case: Case, data: st.DataObject) -> None:
    """The same arguments give the same output, bit for bit on a CPU."""
    _, call, arguments = drawn(case, data)
    first = call(case.layer, *arguments)
    assert_same(case, call(case.layer, *arguments), first, call, *arguments)


def test_repeatable(conformance: Conformance) -> None:
    conformance.check(repeatable)


def no_memory(case: Case, data: st.DataObject) -> None:
    """Earlier calls, with other lengths and batch shapes and with a backward pass, do not change an output."""
    layer = case.layer
    first = layer(case.query, case.context)
    others = data.draw(
        st.lists(st.sampled_from(sorted(methods(case))), min_size=1, max_size=3), label="methods called in between"
    )
    for name in others:
        call, arguments = methods(case)[name]
        call(layer, *[case.tensor(2, *argument.shape) for argument in arguments]).sum().backward()
    layer(case.tensor(layer.width), case.tensor(case.tokens + 2, layer.context_width))
    assert_same(case, layer(case.query, case.context), first, forward, case.query, case.context)


def test_no_memory(conformance: Conformance) -> None:
    conformance.check(no_memory)


def arguments_unmodified(case: Case, data: st.DataObject) -> None:
    """A call modifies neither its arguments nor the layer's parameters and buffers."""
    _, call, arguments = drawn(case, data)
    before, saved = state(case.layer), [argument.clone() for argument in arguments]
    call(case.layer, *arguments)
    for argument, wanted in zip(arguments, saved, strict=True):
        assert torch.equal(argument, wanted), f"an argument of shape {tuple(argument.shape)} was modified"
    after = state(case.layer)
    assert after.keys() == before.keys()
    for name, tensor in after.items():
        assert torch.equal(tensor, before[name]), f"{name} was modified"


def test_arguments_unmodified(conformance: Conformance) -> None:
    conformance.check(arguments_unmodified)


def modes(case: Case, data: st.DataObject) -> None:
    """`train()` and `eval()` give the same output, bit for bit on a CPU: no dropout, no batch statistics."""
    _, call, arguments = drawn(case, data)
    training = call(case.layer.train(), *arguments)
    assert_same(case, call(case.layer.eval(), *arguments), training, call, *arguments)


def test_modes(conformance: Conformance) -> None:
    conformance.check(modes)


def without_gradients(case: Case, data: st.DataObject) -> None:
    """`torch.no_grad()` and `torch.inference_mode()` change no output by more than rounding."""
    _, call, arguments = drawn(case, data)
    exact, allowed = judge(case, call, *arguments)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            assert_close(call(case.layer, *arguments), exact, allowed)


def test_without_gradients(conformance: Conformance) -> None:
    conformance.check(without_gradients)


def state_round_trip(case: Case, data: st.DataObject) -> None:
    """A state dict saved with safetensors and loaded into a new layer of the same configuration gives the same output."""
    saved = safetensors.torch.save({name: part.contiguous() for name, part in case.layer.state_dict().items()})
    fresh = case.built(seed=0).to(device=case.device, dtype=case.dtype)
    fresh.load_state_dict(safetensors.torch.load(saved), strict=True)
    wanted = case.layer(case.query, case.context)
    assert_same(case, fresh(case.query, case.context), wanted, forward, case.query, case.context)


def test_state_round_trip(conformance: Conformance) -> None:
    conformance.check(state_round_trip)


def copies(case: Case, data: st.DataObject) -> None:
    """`copy.deepcopy` gives an independent layer with the same output: changes of the copy do not affect the original."""
    wanted = case.layer(case.query, case.context)
    twin = copy.deepcopy(case.layer)
    assert_same(case, twin(case.query, case.context), wanted, forward, case.query, case.context)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert_same(case, case.layer(case.query, case.context), wanted, forward, case.query, case.context)


def test_copies(conformance: Conformance) -> None:
    conformance.check(copies)


def state_size(case: Case, data: st.DataObject) -> None:
    """`state_size` is an integer ≥ 0, never decreases with more tokens, is the same in all modes and dtypes, and refuses −1."""
    layer, most = case.layer, data.draw(st.integers(1, 300), label="tokens")
    sizes = [layer.state_size(tokens) for tokens in range(most + 1)]
    for tokens, size in enumerate(sizes):
        assert type(size) is int, f"state_size({tokens}) is {size!r}, needs an integer"
        least = max(sizes[:tokens], default=0)
        assert size >= least, f"state_size({tokens}) is {size}, needs at least {least}, the size for fewer tokens"
    for mode in (True, False):
        size = layer.train(mode).state_size(most)
        assert size == sizes[most], (
            f"state_size({most}) is {size} after train({mode}), needs {sizes[most]} as before the call"
        )
    for twin, dtype in ((case.single_layer, torch.float32), (case.wide_layer, torch.float64)):
        size = twin.state_size(most)
        assert size == sizes[most], f"state_size({most}) is {size} in {dtype}, needs {sizes[most]} as in {case.dtype}"
    try:
        size = layer.state_size(-1)
    except ArgumentError:
        return
    raise AssertionError(f"state_size(-1) is {size}, needs an ArgumentError; call self.check_state_size(tokens) first")


def test_state_size(conformance: Conformance) -> None:
    conformance.check(state_size)


def state(layer: ContextualLayer) -> dict[str, Tensor]:
    """Copies of all parameters and buffers, including buffers that are not saved."""
    return {name: part.detach().clone() for name, part in (*layer.named_parameters(), *layer.named_buffers())}

"""Recurrent layers at inputs that are large, small or of many magnitudes: as their float64 copies, by every method."""

import copy

import pytest
import torch
from layers.definitions import METHODS, arguments, assert_as_defined, draw
from torch import Tensor

from ctxblocks import ContextualLayer, PlainBlock, create, dynamics
from ctxblocks.blocks.networks import MLP
from ctxblocks.exactness.tolerance import round_off

FEATURES = ("elu", "relu", "softplus")


def assert_as_in_double(layer: ContextualLayer, query: Tensor, context: Tensor, digits: float) -> None:
    """The output has the value of the float64 copy, up to `digits` of it, and `prefixes` ends in it."""
    exact = copy.deepcopy(layer).double()(query.double(), context.double())
    for output in (layer(query, context), layer.prefixes(query, context)[-1]):
        assert exact.abs().max() > 0
        assert (output.double() - exact).abs().max() <= digits * exact.abs().max()


@pytest.mark.parametrize("scale", [5e19, 1e25, 1e30])
@pytest.mark.parametrize("gated", [False, True])
def test_unit_keys_of_large_inputs(scale: float, gated: bool) -> None:
    """Beyond the root of the largest number squares overflow; the delta rule's keys and queries keep length 1."""
    torch.manual_seed(0)
    layer = create("delta-rule", width=4, gated=gated)
    assert_as_in_double(layer, draw(1, 4, scale=scale), draw(2, 9, 4, scale=scale), 1e-4)
    for method in METHODS:
        assert_as_defined(layer, method, arguments(method, 4, 9, 3, scale=scale), torch.float32, gradients=False)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("scale", [1e-20, 30.0, 100.0, 1e20])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_features_of_many_magnitudes(features: str, scale: float, width: int) -> None:
    """Products of features that leave the range of float32 keep their digits, and so do the quotients of their sums."""
    torch.manual_seed(width)
    layer = create("linear-attention", width=width, features=features, heads=1)
    layer.chunk, layer.running_chunk, layer.block = 4, 4, 9  # type: ignore[assignment]
    for method in METHODS:
        assert_as_defined(layer, method, arguments(method, width, 13, 3, scale=scale), torch.float32, gradients=False)


def test_weights_below_float32() -> None:
    """With features of e^-100 the mean of two values is their mean, and its gradient too."""
    layer = create("linear-attention", width=1, heads=1)
    for parameter, value in zip(layer.parameters(), (1.0, -1.0, 1.0, 1.0), strict=True):
        parameter.data.fill_(value)
    query, context = torch.tensor([-100.0], requires_grad=True), torch.tensor([[-100.0], [-100.0]])
    exact = copy.deepcopy(layer).double()(query.double(), context.double())
    output = layer(query, context)
    assert abs(output.item() - exact.item()) <= 8 * round_off(torch.float32) * abs(exact.item())
    assert torch.autograd.grad(output.sum(), query)[0].isfinite().all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("scale", "dtype"), [(1e9, torch.float32), (1e20, torch.float32), (1e30, torch.float32)])
def test_products_of_five_signals(method: str, scale: float, dtype: torch.dtype) -> None:
    """The state space's read is a product of up to five signals, whose norm is finite however large they are."""
    torch.manual_seed(0)
    layer = create("ssm", width=4)
    assert_as_defined(layer, method, arguments(method, 4, 9, 3, scale=scale), dtype, gradients=False)
    args = arguments(method, 4, 9, 3, scale=scale)
    assert getattr(layer, method)(*args).isfinite().all()


@pytest.mark.parametrize("name", ["ssm", "delta-rule", "linear-attention", "griffin"])
@pytest.mark.parametrize("seed", range(4))
def test_projections_beyond_float16(name: str, seed: int) -> None:
    """Inputs near the largest number of float16 have projections beyond it, and finite outputs where those fit."""
    torch.manual_seed(seed)
    layer = create(name, width=4).half()
    query, context = (6e4 * (2 * torch.rand(*shape) - 1).half() for shape in ((4,), (9, 4)))
    exact = ContextualLayer.prefixes(copy.deepcopy(layer).double(), query.double(), context.double())
    output = layer.prefixes(query, context)
    fits = exact.abs() < torch.finfo(torch.float16).max * (1 - 1e-2)
    assert output[fits].isfinite().all()


def test_the_forgotten_weigh_nothing() -> None:
    """A token of 1e6 that a later gate has closed away leaves nothing in the state space's read."""
    torch.manual_seed(0)
    layer = create("ssm", width=2, conv=1)
    with torch.no_grad():
        layer.A_log += 8.0  # type: ignore[operator]
    context = torch.cat([draw(1, 1, 2, scale=1e6), draw(2, 4, 2, scale=1e-2)])
    for method, args in (("prefixes", [draw(3, 2), context]), ("sequence", [context])):
        assert_as_defined(layer, method, args, torch.float32, gradients=False)


def test_a_decay_of_one_adds_nothing() -> None:
    """Where a gate is closed so far that `a = 1`, the root of `1 − a²` is 0 and not that of the smallest number."""
    torch.manual_seed(0)
    lru = create("griffin", width=2).lru
    with torch.no_grad():
        lru.recurrence_gate.weight.zero_()  # type: ignore[union-attr, operator]
        lru.recurrence_gate.bias.fill_(-1e4)  # type: ignore[union-attr, operator]
    u = draw(1, 3, 2, scale=1e12).requires_grad_()
    _, decay, drive = lru(u)  # type: ignore[operator]
    assert (decay == 1).all()
    assert (drive == 0).all()
    assert torch.autograd.grad(drive.sum(), u)[0].isfinite().all()


def test_the_step_size_of_small_reads() -> None:
    """`1/‖z‖²` of float16 reads of 1e-3 is about 1e6, in float32, as are the gradient and the loss."""
    torch.manual_seed(0)
    block = PlainBlock(create("rnn", width=4), MLP(4, 8)).half()
    steps = dynamics(block, 1e-3 * torch.randn(4).half(), 1e-3 * torch.randn(5, 4).half())
    with torch.no_grad():
        z = steps.base.z[..., 0, :].double()
        wanted = 1 / (z * z).sum(-1)
    assert steps.step_size.dtype == torch.float32
    assert abs(steps.step_size.item() - wanted.item()) <= 16 * round_off(torch.float32) * wanted.item()
    assert steps.loss(2).dtype == steps.gradient(2).dense().dtype == torch.float32

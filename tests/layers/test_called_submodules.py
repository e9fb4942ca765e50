"""Submodules under hooks, adapters and parametrisations: every call of a layer uses them, and gradients reach them."""

import copy
from collections.abc import Callable

import pytest
import torch
from layers.definitions import METHODS, arguments, assert_as_defined
from torch import Tensor, nn
from torch.nn.utils import parametrizations, weight_norm

from ctxblocks import ArgumentError, ContextualLayer, create

# one head, since normalised heads of width 1 do not depend on their query
LAYERS: dict[str, dict[str, int]] = {
    "self-attention": {"heads": 1},
    "local-attention": {"heads": 1, "window": 3},
    "linear-attention": {"heads": 1},
    "delta-rule": {"heads": 1},
    "griffin": {},
    "ssm": {},
}


class Adapter(nn.Module):
    """`W x + b + B A x`, or its like of a convolution: a module with a weight and a bias that is more than these."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base, self.extra = base, copy.deepcopy(base)
        self.weight, self.bias = base.weight, base.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + torch.tanh(self.extra(x))  # type: ignore[no-any-return]


def _adapt(layer: nn.Module, name: str) -> None:
    setattr(layer, name, Adapter(getattr(layer, name)))


def _hook(layer: nn.Module, name: str) -> None:
    getattr(layer, name).register_forward_hook(lambda _, args, output: 2 * output)


def _pre_hook(layer: nn.Module, name: str) -> None:
    getattr(layer, name).register_forward_pre_hook(lambda _, args: (2 * args[0] + 1,))


def _old_weight_norm(layer: nn.Module, name: str) -> None:
    weight_norm(getattr(layer, name))
    getattr(layer, name).weight_g.data.mul_(3)


def _new_weight_norm(layer: nn.Module, name: str) -> None:
    parametrizations.weight_norm(getattr(layer, name))
    getattr(layer, name).parametrizations.weight.original0.data.mul_(3)


CHANGES = (_adapt, _hook, _pre_hook, _old_weight_norm, _new_weight_norm)


def _maps(layer: nn.Module) -> list[str]:
    """The names of the dense and convolution layers."""
    return [name for name, each in layer.named_children() if type(each) in (nn.Linear, nn.Conv1d)]


@pytest.mark.parametrize("change", CHANGES, ids=lambda each: each.__name__.strip("_"))
@pytest.mark.parametrize("name", LAYERS)
def test_all_calls_use_the_submodule(name: str, change: Callable[[nn.Module, str], None]) -> None:
    """A change of any submodule changes the output, in all calls alike, and its parameters get gradients."""
    torch.manual_seed(0)
    plain = create(name, width=4, **LAYERS[name]).double()
    for at in _maps(plain):
        layer = copy.deepcopy(plain)
        change(layer, at)
        query, context = arguments("prefixes", 4, 6, 1, dtype=torch.float64)
        output = layer(query, context)
        assert (output - plain(query, context)).abs().max() > 1e-9  # far above rounding
        for method in METHODS:
            args = arguments(method, 4, 6, 1, dtype=torch.float64)
            fast, slow = getattr(layer, method)(*args), getattr(ContextualLayer, method)(layer, *args)
            assert (fast - slow).abs().max() <= 1e-12 * slow.abs().max()
            slopes = torch.autograd.grad(fast.sum(), list(getattr(layer, at).parameters()), allow_unused=True)
            assert all(each is not None and each.isfinite().all() for each in slopes)


@pytest.mark.parametrize("conv", [1, 2, 4])
@pytest.mark.parametrize("method", METHODS)
def test_a_called_convolution_is_the_sum_of_taps(conv: int, method: str) -> None:
    """A hook that changes nothing changes nothing: windows through the module are the weighted sums of tokens."""
    torch.manual_seed(0)
    layer = create("ssm", width=4, conv=conv)
    args = arguments(method, 4, 7, 1, batch=(2,))
    wanted = getattr(copy.deepcopy(layer).double(), method)(*(each.double() for each in args))
    layer.conv1d.register_forward_hook(lambda _, args, output: output)
    layer.in_proj.register_forward_hook(lambda _, args, output: output)
    assert (getattr(layer, method)(*args).double() - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert_as_defined(layer, method, args, torch.float32)


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_cells_are_parametrised_but_not_hooked(name: str) -> None:
    """A cell's weights may be parametrised; hooks, for which the cell would have to be called, are refused."""
    torch.manual_seed(0)
    layer = create(name, width=4).double()
    query, context = arguments("prefixes", 4, 6, 1, dtype=torch.float64)
    before = layer(query, context)
    parametrizations.weight_norm(layer.recurrence, "weight_ih_l0")
    layer.recurrence.parametrizations.weight_ih_l0.original0.data.mul_(3)  # type: ignore[union-attr, operator]
    assert (layer(query, context) - before).abs().max() > 1e-6
    for method in METHODS:
        args = arguments(method, 4, 6, 1, dtype=torch.float64)
        fast, slow = getattr(layer, method)(*args), getattr(ContextualLayer, method)(layer, *args)
        assert (fast - slow).abs().max() <= 1e-12 * slow.abs().max()
    layer.recurrence.register_forward_hook(lambda _, args, output: output)
    for method in ("__call__", *METHODS):
        args = [query, context] if method == "__call__" else arguments(method, 4, 6, 1, dtype=torch.float64)
        with pytest.raises(ArgumentError, match=r"recurrence.*hook"):
            getattr(layer, method)(*args)

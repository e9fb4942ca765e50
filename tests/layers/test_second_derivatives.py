"""Layers under second derivatives, forward mode, and tensors without values."""

import pytest
import torch
from layers.definitions import METHODS, arguments
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad

from ctxblocks import ContextualLayer, create
from ctxblocks.exactness.tolerance import round_off

NAMES = ("self-attention", "local-attention", "linear-attention", "delta-rule", "griffin", "ssm", "rnn", "gru", "lstm")
CALLS = ("__call__", *METHODS)


def _call(layer: ContextualLayer, name: str, *args: Tensor) -> Tensor:
    output: Tensor = getattr(layer, name)(*args)
    return output


def _arguments(call: str, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return arguments("prefixes" if call == "__call__" else call, 4, 5, 1, dtype=dtype)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives(name: str, call: str) -> None:
    """First and second derivatives are those of finite differences, in the arguments."""
    torch.manual_seed(0)
    layer = create(name, width=4).double()
    leaves = tuple(each.requires_grad_() for each in _arguments(call))
    assert torch.autograd.gradgradcheck(lambda *a: _call(layer, call, *a).square(), leaves, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", NAMES)
def test_forward_mode(name: str, call: str, dtype: torch.dtype) -> None:
    """A directional derivative by forward mode is that by reverse mode."""
    torch.manual_seed(0)
    layer = create(name, width=4).to(dtype)
    args = _arguments(call, dtype)
    ways = [torch.randn_like(each) for each in args]
    with forward_ad.dual_level():
        duals = [forward_ad.make_dual(each, way) for each, way in zip(args, ways, strict=True)]
        slope = forward_ad.unpack_dual(_call(layer, call, *duals)).tangent
    assert slope is not None
    leaves = [each.requires_grad_() for each in args]
    weights = torch.randn_like(slope)
    slopes = torch.autograd.grad((_call(layer, call, *leaves) * weights).sum(), leaves)
    terms = torch.cat([(each * way).flatten() for each, way in zip(slopes, ways, strict=True)])
    operations = 6 * 4 * 16  # of 6 tokens of width 4, each of which goes through up to 16 operations
    assert ((slope * weights).sum() - terms.sum()).abs() <= 8 * operations * round_off(dtype) * terms.abs().sum()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", NAMES)
def test_tensors_without_values(name: str, call: str) -> None:
    """On the meta device and as fake tensors, every call gives the shape and dtype that it gives of numbers."""
    args = _arguments(call, torch.float32)
    wanted = _call(create(name, width=4), call, *args)
    with torch.device("meta"):
        meta = _call(create(name, width=4), call, *(each.to("meta") for each in args))
    assert (meta.shape, meta.dtype, meta.device.type) == (wanted.shape, wanted.dtype, "meta")
    with FakeTensorMode():
        fake = _call(create(name, width=4), call, *(torch.randn(each.shape) for each in args))
    assert (fake.shape, fake.dtype) == (wanted.shape, wanted.dtype)

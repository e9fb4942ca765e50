"""The matrices that a site's input is really multiplied by: with adapters, parametrisations and hooks, not the stored ones."""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ctxblocks import ArgumentError, LinearWeights
from ctxblocks.numerics import widen
from ctxblocks_transformers.wiring.difference import round_off
from ctxblocks_transformers.wiring.sites import Site
from ctxblocks_transformers.wiring.view import TRANSPOSED, resolve


def effective_weights(site: Site) -> dict[str, Tensor]:  # (m, d) or (experts, m, d) each
    """The matrix of every reader of a site, by path in the layer.

    A plain dense layer's is its weight, as are those of routers and experts. Any other dense layer, such as one wrapped by
    an adapter, quantised or with hooks, is applied to the unit vectors, minus its output for zero.

    Raises:
        ArgumentError: such a module is not affine.
    """
    return {path: _effective(site, path, weights) for path, weights in site.readers().items()}


def _effective(site: Site, path: str, weights: LinearWeights) -> Tensor:
    module = resolve(site.block.layer, path)
    dense = isinstance(module, nn.Linear) or isinstance(getattr(module, "in_features", None), int)
    if not isinstance(module, nn.Module) or not dense or _stored(module):
        return weights.matrices().detach()
    with torch.no_grad():
        return _applied(module, weights, f"{site.block.path}.{path}")


def _stored(module: nn.Module) -> bool:
    """Whether the module multiplies by its parameter `weight` and does nothing else to its input first."""
    weight = getattr(module, "weight", None)
    plain = isinstance(module, nn.Linear) or type(module).__name__ in TRANSPOSED or parametrize.is_parametrized(module)
    changed = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module) or any(module.children())
    wrapped = changed and not (parametrize.is_parametrized(module) and not module._forward_hooks)
    return plain and not wrapped and isinstance(weight, Tensor) and weight.is_floating_point()


def _applied(module: nn.Module, weights: LinearWeights, name: str) -> Tensor:  # (m, d)
    """The matrix of an affine module, from its outputs for the unit vectors and zero; checked on one more vector."""
    stored = weights.matrices()
    width, like = _width(module, stored), next(p for p in module.parameters() if p.is_floating_point())
    device = like.device if like.device.type != "meta" else torch.device("cpu")
    unit = torch.eye(width, dtype=like.dtype, device=device)
    offset = widen(module(torch.zeros_like(unit[:1])))
    matrix = (widen(module(unit)) - offset).mT
    probe = torch.linspace(-1, 1, width, dtype=like.dtype, device=device)
    direct, again = widen(module(probe.unsqueeze(0)))[0], matrix @ widen(probe) + offset[0]
    if not (direct - again).abs().max() <= round_off(like.dtype) * matrix.abs().sum(-1).max().clamp_min(
        direct.abs().max()
    ):
        raise ArgumentError(
            f"model: {name} ({type(module).__name__}) is not affine, so that it has no matrix to measure"
        )
    return matrix


def _width(module: nn.Module, stored: Tensor) -> int:
    wanted = getattr(module, "in_features", None)
    return int(wanted) if isinstance(wanted, int) else stored.shape[-1]

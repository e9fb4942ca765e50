"""Which specification a model follows: the registered one, or a guess that was proven on the model's own weights."""

from typing import Any

import attrs
import torch

from ctxblocks import ArgumentError, Augmented, BlockSpec, FamilySpec, registry
from ctxblocks_transformers.updates.difference import Difference
from ctxblocks_transformers.updates.model_update import evaluation
from ctxblocks_transformers.wiring.guess import guess, probe_tokens
from ctxblocks_transformers.wiring.view import view_of

PROOF = 2000.0
"""Units of float32's round-off, relative to the largest output, that a guess may be off by: some models compute in it."""
HALF = 20.0
"""The same of a half type's own, each block having taken up the rounding of those before."""
SHARE = 0.1
"""The share of the context's own effect that it may be off by, whatever the dtype."""


def family_of(model: Any) -> FamilySpec:
    """The family that a plugin provides for the model's type, or a guess that passed the identity.

    Raises:
        ArgumentError: nobody provides one, and no guess passes.
    """
    known = registry().family(model.config.model_type)
    return known if known is not None else proven(model, guess(model))


def proven(model: Any, family: FamilySpec) -> FamilySpec:
    """The family as far as the identity holds with it on a few tokens.

    Where it holds at the networks alone, the mixers' output projections are left out; where at these alone, the networks.

    Raises:
        ArgumentError: it holds with neither.
    """
    second = attrs.evolve(family, blocks=tuple(_mixers_only(spec) for spec in family.blocks))
    first, reasons = _passes(model, family, "network")
    other = False
    if all(spec.projection for spec in family.blocks if spec.mixer):
        other, more = _passes(model, second, "out-proj")
        reasons += f"; {more}"
    if first and not other:
        return attrs.evolve(family, blocks=tuple(attrs.evolve(spec, projection="") for spec in family.blocks))
    if first or other:
        return family if first else second
    raise ArgumentError(
        f"model: {type(model).__name__} ({model.config.model_type!r}) is of no registered family and its wiring was guessed "
        f"wrongly: {reasons}; pass family=FamilySpec(…)"
    )


def _passes(model: Any, family: FamilySpec, name: str) -> tuple[bool, str]:
    """Whether the identity holds up to round-off, and by how much it does not."""
    try:
        error, effect = deviation(model, family)
    except (IndexError, RuntimeError) as failure:  # of torch: rows of another number or width than the layer's
        return False, f"{name!r} does not fit ({failure})"
    fine = effect > 0 and error <= min(round_off(model.dtype), SHARE * effect)
    return fine, f"{error:.2g} off by {name!r} where the context does {effect:.2g}"


def round_off(dtype: torch.dtype) -> float:
    """What two ways through a model may differ by, relative to the largest entry."""
    half = dtype in (torch.bfloat16, torch.float16)
    return HALF * torch.finfo(dtype).eps if half else PROOF * torch.finfo(torch.float32).eps


def deviation(model: Any, family: FamilySpec) -> tuple[float, float]:
    """Error and effect of removing all but the last of a few tokens, relative to the largest output."""
    from ctxblocks_transformers.updates.transfer import remove

    tokens = probe_tokens(model, 6)
    with evaluation(model), torch.no_grad():
        report = remove(view_of(model, family), tokens, [5], 5, "network", Augmented()).report
    return report.relative, report.effect / report.size


def _mixers_only(spec: BlockSpec) -> BlockSpec:
    if not spec.projection:
        return spec
    return BlockSpec(wiring="mixer-only", mixer=spec.mixer, projection=spec.projection)


def allowed(found: Difference, dtype: torch.dtype) -> float:
    """How far an output with an update may be from that with the full context for the update to count as one.

    Half types are given half of the context's effect: the rounding of many blocks, or of changed weights, costs that much.
    """
    if dtype in (torch.bfloat16, torch.float16):
        return max(HALF * torch.finfo(dtype).eps * found.size, found.effect / 2)
    return PROOF * torch.finfo(torch.float32).eps * found.size

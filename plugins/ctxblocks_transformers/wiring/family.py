"""The family of a model: the registered one, or a guess that was proven on the model's own weights."""

from typing import Any

import attrs
import torch

from ctxblocks import ArgumentError, Augmented, BlockSpec, FamilySpec, registry
from ctxblocks_transformers.wiring.calling import evaluation
from ctxblocks_transformers.wiring.difference import difference_of, round_off
from ctxblocks_transformers.wiring.guess import LENGTH, guess, probe_tokens
from ctxblocks_transformers.wiring.passes import remove
from ctxblocks_transformers.wiring.view import view_of
from ctxblocks_transformers.wiring.wirings import sites_of

SHARE = 0.1
"""Largest error of a guess as a share of the context's effect, whatever the dtype."""


GUESSING = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Errors that a guess raises inside models whose layers it cannot follow."""


def family_for(model: Any, family: FamilySpec | None) -> FamilySpec:
    """The family that the caller gives, or that of the model's type.

    Raises:
        ArgumentError: it is no family, or as in `family_of`.
    """
    if family is None:
        return family_of(model)
    if not isinstance(family, FamilySpec):
        raise ArgumentError(
            f"family: got {family!r}, needs a FamilySpec, such as guess(model) or registry().family('llama')"
        )
    return family


def family_of(model: Any) -> FamilySpec:
    """The family that a plugin registers for the model's type, or else a proven guess.

    Raises:
        ArgumentError: no plugin registers one, and no guess can be made or proven.
    """
    known = registry().family(model.config.model_type)
    if known is not None:
        return known
    try:
        return proven(model, guess(model))
    except GUESSING as error:
        raise ArgumentError(
            f"model: {type(model).__name__} ({model.config.model_type!r}) is of no registered family and its wiring cannot be "
            f"followed ({type(error).__name__}: {str(error).partition(chr(10))[0]}); pass family=FamilySpec(…)"
        ) from error


def proven(model: Any, family: FamilySpec) -> FamilySpec:
    """The part of a family for which the theorem holds on a few tokens.

    Where it holds only at the networks, the mixers' output projections are dropped; where only at these, the networks.

    Raises:
        ArgumentError: it holds at neither.
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
    """Whether the updates give the output with the full context up to round-off, and the error in words."""
    try:
        error, effect = deviation(model, family)
    except (IndexError, RuntimeError) as failure:  # of torch: rows of another number or width than the layer's
        return False, f"{name!r} does not fit ({failure})"
    fine = effect > 0 and error <= min(round_off(model.dtype), SHARE * effect)
    return fine, f"{error:.2g} off by {name!r} where the context does {effect:.2g}"


def deviation(model: Any, family: FamilySpec) -> tuple[float, float]:
    """Error and effect of removing all but the last of a few tokens, relative to the largest output."""
    with evaluation(model), torch.no_grad():
        sites = sites_of(view_of(model, family), "network")
        removal = remove(
            model, sites, probe_tokens(model, LENGTH), torch.tensor([LENGTH - 1]), [Augmented()] * len(sites)
        )
    report = difference_of(removal.output[0], removal.full[0], removal.plain[0])
    return report.relative, report.effect / report.size


def _mixers_only(spec: BlockSpec) -> BlockSpec:
    if not spec.projection:
        return spec
    return BlockSpec(wiring="mixer-only", mixer=spec.mixer, projection=spec.projection)

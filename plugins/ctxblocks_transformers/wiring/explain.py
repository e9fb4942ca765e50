"""How the theorem sees a model: the wiring of every layer, what takes the update, and by which formula."""

import dataclasses
from typing import Any

import torch

from ctxblocks import BlockSpec, FamilySpec
from ctxblocks_transformers.updates.model_update import evaluation
from ctxblocks_transformers.wiring.checks import check_model
from ctxblocks_transformers.wiring.family import family_of
from ctxblocks_transformers.wiring.reads import NETWORK, sites_of
from ctxblocks_transformers.wiring.view import BlockView, view_of

Tensors = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """Consecutive layers of one kind.

    Attributes:
        first: the number of the first of them, from 0.
        last: that of the last.
        kind: the class of the layers.
        spec: how they are wired.
        site: where the update goes: `"network"`, `"out-proj"`, or "" for layers that read no other token.
        readers: the parameters of the network that read `z`, by path in the layer, with their shapes as they are stored.
        projection: the same of the mixer's output projection.
        update: the formula of the weights' update.
        shift: the formula of the bypass shift, and where it is added.
    """

    first: int
    last: int
    kind: str
    spec: BlockSpec
    site: str
    readers: Tensors
    projection: Tensors
    update: str
    shift: str


@dataclasses.dataclass(frozen=True)
class ModelReport:
    """What `transfer_model` would do in a model.

    Attributes:
        kind: the model's class.
        model_type: of its configuration.
        family: whose wiring it follows.
        layers: path of the list of layers.
        rows: the layers, consecutive ones of one kind in one row.
    """

    kind: str
    model_type: str
    family: str
    layers: str
    rows: tuple[LayerReport, ...]


def explain(model: Any, family: FamilySpec | None = None) -> ModelReport:
    """The wiring of every layer; of a model on the meta device as well, if a plugin provides its family.

    Raises:
        ArgumentError: the model is no causal language model whose blocks are known or can be guessed.
    """
    check_model(model, values=False)
    with evaluation(model), torch.no_grad():
        view = view_of(model, family_of(model) if family is None else family)
    rows: list[LayerReport] = []
    for site in sites_of(view, NETWORK):
        row = _row(site.block, site.site)
        if rows and dataclasses.replace(row, first=0, last=0) == dataclasses.replace(rows[-1], first=0, last=0):
            rows[-1] = dataclasses.replace(rows[-1], last=row.last)
        else:
            rows.append(row)
    found = view.family
    return ModelReport(type(model).__name__, model.config.model_type, found.name, found.layers, tuple(rows))


def _row(block: BlockView, site: str) -> LayerReport:
    spec = block.spec
    update, shift = formulas(spec, site)
    return LayerReport(
        first=block.index,
        last=block.index,
        kind=type(block.layer).__name__,
        spec=spec,
        site=site,
        readers=_shapes(block, spec.readers),
        projection=_shapes(block, (spec.projection,) if spec.projection else ()),
        update=update,
        shift=shift,
    )


def formulas(spec: BlockSpec, site: str) -> tuple[str, str]:
    """The update and the shift of a block in words."""
    if not site:
        return "ΔW = 0: the layer reads no other token", "none"
    if site != NETWORK:
        return "ΔW = (W δ) kᵀ, δ = y_C − y, k = y / ‖y‖², y what the output projection W reads", "none"
    if spec.wiring == "parallel":
        return "ΔW = 0: the network reads no other token", "Δb' = mix_C − mix, added to the layer's output"
    update = "ΔW = (W δ) kᵀ for every reader W, δ = z_C − z, k = z / ‖z‖²"
    if spec.wiring == "post-norm":
        where = f"the output of {spec.inner}, inside the last norm" if spec.inner else "the layer's output"
    else:
        where = f"the layer's output, behind {spec.branch}" if spec.branch else "the layer's output"
    return update, f"Δb' = r_C − r, added to {where}"


def _shapes(block: BlockView, paths: tuple[str, ...]) -> Tensors:
    found = [block.weights(path) for path in paths]
    names = [each.path if each.path.endswith(each.name) else f"{each.path}.{each.name}" for each in found]
    return {name: tuple(each.parameter.shape) for name, each in zip(names, found, strict=True)}

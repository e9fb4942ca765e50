"""The wiring of every layer of a model, the weights that take its update, and the formulas of the update."""

import dataclasses
from typing import Any

import torch

from ctxblocks import BlockSpec, FamilySpec
from ctxblocks_transformers.wiring.calling import evaluation
from ctxblocks_transformers.wiring.checks import check_model
from ctxblocks_transformers.wiring.family import family_for
from ctxblocks_transformers.wiring.sites import Site
from ctxblocks_transformers.wiring.view import BlockView, view_of
from ctxblocks_transformers.wiring.wirings import sites_of

Tensors = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class LayerReport:
    """Consecutive layers of one kind.

    Attributes:
        first: the index of the first of them, from 0.
        last: the index of the last.
        kind: the class of the layers.
        spec: their wiring.
        site: the site of the update: `"network"`, `"out-proj"`, or "" for layers that read no other token.
        readers: the parameters of the network that read `z`, by path in the layer, with their shapes as stored.
        projection: the same for the mixer's output projection.
        update: the formula of the weight update.
        shift: the formula of the bias shift, and where it is added.
        changed: those of `readers` or `projection` that take the update; none in parallel layers.
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
    changed: Tensors


@dataclasses.dataclass(frozen=True)
class ModelReport:
    """The wiring of a model as `transfer_model` uses it.

    Attributes:
        kind: the class of the model.
        model_type: the model type of its configuration.
        family: the name of its family.
        layers: path of the list of layers.
        rows: the layers, with consecutive layers of one kind in one row.
    """

    kind: str
    model_type: str
    family: str
    layers: str
    rows: tuple[LayerReport, ...]


def explain(model: Any, family: FamilySpec | None = None) -> ModelReport:
    """The wiring of every layer. The model may be on the meta device if a plugin registers its family.

    Raises:
        ArgumentError: the model is not a language model whose blocks are known or can be guessed.
    """
    check_model(model, values=False)
    with evaluation(model), torch.no_grad():
        view = view_of(model, family_for(model, family))
    rows: list[LayerReport] = []
    for site in sites_of(view, "network"):
        row = _row(site)
        if rows and dataclasses.replace(row, first=0, last=0) == dataclasses.replace(rows[-1], first=0, last=0):
            rows[-1] = dataclasses.replace(rows[-1], last=row.last)
        else:
            rows.append(row)
    return ModelReport(type(model).__name__, model.config.model_type, view.family.name, view.family.layers, tuple(rows))


def _row(site: Site) -> LayerReport:
    block, spec = site.block, site.block.spec
    update, shift = site.formulas()
    return LayerReport(
        first=block.index,
        last=block.index,
        kind=type(block.layer).__name__,
        spec=spec,
        site=site.name,
        readers=_shapes(block, spec.readers),
        projection=_shapes(block, (spec.projection,) if spec.projection else ()),
        update=update,
        shift=shift,
        changed=_shapes(block, tuple(site.changed())),
    )


def _shapes(block: BlockView, paths: tuple[str, ...]) -> Tensors:
    weights = block.weights(*paths)
    return {block.local_name(path, each.name): tuple(each.parameter.shape) for path, each in weights.items()}

"""How the theorem sees a model: the wiring of every layer, what takes the update, and by which formula."""

import dataclasses
from typing import Any

import torch

from ctxblocks import BlockSpec, FamilySpec
from ctxblocks_transformers.wiring.calling import evaluation
from ctxblocks_transformers.wiring.checks import check_model
from ctxblocks_transformers.wiring.family import family_of
from ctxblocks_transformers.wiring.sites import Site
from ctxblocks_transformers.wiring.view import BlockView, view_of
from ctxblocks_transformers.wiring.wirings import sites_of

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
    for site in sites_of(view, "network"):
        row = _row(site)
        if rows and dataclasses.replace(row, first=0, last=0) == dataclasses.replace(rows[-1], first=0, last=0):
            rows[-1] = dataclasses.replace(rows[-1], last=row.last)
        else:
            rows.append(row)
    found = view.family
    return ModelReport(type(model).__name__, model.config.model_type, found.name, found.layers, tuple(rows))


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
    )


def _shapes(block: BlockView, paths: tuple[str, ...]) -> Tensors:
    found = [block.weights(path) for path in paths]
    names = [each.path if each.path.endswith(each.name) else f"{each.path}.{each.name}" for each in found]
    return {name: tuple(each.parameter.shape) for name, each in zip(names, found, strict=True)}

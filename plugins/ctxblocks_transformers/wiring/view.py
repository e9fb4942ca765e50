"""A model as the theorem sees it: its layers, the modules that matter in each, and the weights that read `z`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError, BlockSpec, FamilySpec

ROWS, COLUMNS = "rows", "columns"
TRANSPOSED = ("Conv1D", "Llama4TextExperts")
"""Classes of modules that store matrices with inputs as rows and do not say so."""


@dataclasses.dataclass(frozen=True)
class Weights:
    """One matrix, or the matrices of all experts, and how they are stored.

    Attributes:
        path: in the layer.
        module: what is called with `z`.
        name: of the parameter in the module.
        layout: `"rows"` for `(…, m, d)`, `"columns"` for `(…, d, m)`.
        bias: name of the bias parameter, None where there is none.
    """

    path: str
    module: nn.Module
    name: str
    layout: str
    bias: str | None

    @property
    def parameter(self) -> Tensor:
        """The weights as they are stored."""
        found: Tensor = getattr(self.module, self.name)
        return found

    def matrices(self) -> Tensor:  # (…, m, d)
        """The weights with outputs as rows, a view."""
        return self.parameter if self.layout == ROWS else self.parameter.mT


@dataclasses.dataclass(frozen=True)
class BlockView:
    """One layer of a model.

    Attributes:
        index: its number, from 0.
        path: in the model, such as `"model.layers.0"`.
        layer: the module.
        spec: how it is wired.
    """

    index: int
    path: str
    layer: nn.Module
    spec: BlockSpec
    modules: Mapping[str, nn.Module]

    def readers(self) -> list[Weights]:
        """Everything that maps `z` linearly."""
        return [self.weights(path) for path in self.spec.readers]

    def last(self) -> list[Weights]:
        """The last dense layers."""
        return [self.weights(path) for path in self.spec.last]

    def weights(self, path: str) -> Weights:
        """The weights at a path: of a module its `weight`, or the parameter itself."""
        found = resolve(self.layer, path)
        module = self.modules[path]
        name = "weight" if isinstance(found, nn.Module) else path.rpartition(".")[2]
        transposed = getattr(module, "is_transposed", False) or type(module).__name__ in TRANSPOSED
        biases = [bias for bias in ("bias", f"{name}_bias") if getattr(module, bias, None) is not None]
        return Weights(path, module, name, COLUMNS if transposed else ROWS, biases[0] if biases else None)

    def parameter_name(self, weights: Weights, name: str = "") -> str:
        """The name in the model of the weights, or of their bias."""
        found = resolve(self.layer, weights.path)
        path = weights.path if isinstance(found, nn.Module) else weights.path.rpartition(".")[0]
        return f"{self.path}.{path}.{name or weights.name}"

    @property
    def scale(self) -> float:
        """What multiplies both branches of the layer before they are added."""
        return float(getattr(self.layer, self.spec.scale)) if self.spec.scale else 1.0

    @property
    def gain(self) -> Tensor | float:  # (), (1,) or (d,)
        """What multiplies the bypass where the network's output is added."""
        found: Tensor | float = getattr(self.layer, self.spec.gain) if self.spec.gain else 1.0
        return found


@dataclasses.dataclass(frozen=True)
class ModelView:
    """A model and its layers; nothing of the model is changed by looking.

    Attributes:
        model: the user's.
        family: whose specification it follows.
        blocks: its layers, in order.
    """

    model: Any
    family: FamilySpec
    blocks: tuple[BlockView, ...]


def view_of(model: nn.Module, family: FamilySpec) -> ModelView:
    """The model's layers, each with the first specification of the family that fits it.

    Raises:
        ArgumentError: the list of layers is not there, or a layer fits no specification.
    """
    path = family.layers
    layers = resolve(model, path)
    if layers is None:  # a model without a head is the head's first attribute
        path = path.partition(".")[2]
        layers = resolve(model, path) if path else None
    if not isinstance(layers, nn.ModuleList | nn.Sequential):
        raise ArgumentError(
            f"model: {type(model).__name__} has no list of layers at {family.layers!r}, needs one for the family "
            f"{family.name!r}; pass family=… with the right paths"
        )
    blocks = []
    for index, layer in enumerate(layers):
        spec = next((spec for spec in family.blocks if fits(layer, spec)), None)
        if spec is None:
            raise ArgumentError(
                f"model: layer {index} ({type(layer).__name__}) fits no block of the family {family.name!r}; "
                f"pass family=guess(model), or a FamilySpec of your own"
            )
        modules = {each: holder(layer, each) for each in spec.paths()}
        blocks.append(BlockView(index, f"{path}.{index}", layer, spec, modules))
    return ModelView(model, family, tuple(blocks))


def fits(layer: nn.Module, spec: BlockSpec) -> bool:
    """Whether a layer has everything that the specification names."""
    attributes = [name for name in (spec.scale, spec.gain) if name]
    return all(resolve(layer, path) is not None for path in spec.paths()) and all(
        hasattr(layer, name) for name in attributes
    )


def resolve(root: nn.Module, path: str) -> Any:
    """The module or parameter at a dotted path, None where there is none."""
    found: Any = root
    for name in path.split("."):
        found = getattr(found, name, None)
        if not isinstance(found, nn.Module | torch.Tensor):
            return None
    return found


def holder(layer: nn.Module, path: str) -> nn.Module:
    """The module at a path; of a parameter, the module that holds it."""
    value = resolve(layer, path)
    return value if isinstance(value, nn.Module) else resolve(layer, path.rpartition(".")[0])

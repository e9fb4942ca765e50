"""The layers of a model, each with its wiring, its modules and its weights."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError, BlockSpec, FamilySpec, LinearWeights

TRANSPOSED = ("Conv1D", "Llama4TextExperts")
"""Classes of modules that store matrices with inputs as rows without an attribute `is_transposed`."""


@dataclasses.dataclass(frozen=True)
class BlockView:
    """One layer of a model.

    Attributes:
        index: its index, from 0.
        path: its path in the model, such as `"model.layers.0"`.
        layer: the module.
        spec: its wiring.
        modules: the module at every path of the specification; at the path of a parameter, the module that holds it.
    """

    index: int
    path: str
    layer: nn.Module
    spec: BlockSpec
    modules: Mapping[str, nn.Module]

    def weights(self, *paths: str) -> dict[str, LinearWeights]:
        """The weights at each path: the parameter itself, or the `weight` of a module."""
        return {path: self._weights(path) for path in paths}

    def _weights(self, path: str) -> LinearWeights:
        module = self.modules[path]
        name = "weight" if isinstance(resolve(self.layer, path), nn.Module) else path.rpartition(".")[2]
        transposed = getattr(module, "is_transposed", False) or type(module).__name__ in TRANSPOSED
        biases = [bias for bias in ("bias", f"{name}_bias") if getattr(module, bias, None) is not None]
        return LinearWeights(module, name, transposed, biases[0] if biases else None)

    def local_name(self, path: str, name: str) -> str:
        """The name in the layer of a parameter of the module at a path."""
        return f"{path if isinstance(resolve(self.layer, path), nn.Module) else path.rpartition('.')[0]}.{name}"

    def parameter_name(self, path: str, name: str) -> str:
        """The name in the model of a parameter of the module at a path."""
        return f"{self.path}.{self.local_name(path, name)}"

    @property
    def scale(self) -> float:
        """The factor of both branches of the layer."""
        return float(getattr(self.layer, self.spec.scale)) if self.spec.scale else 1.0

    @property
    def gain(self) -> Tensor | float:  # (), (1,) or (d,)
        """The factor of the residual stream where the network's output is added to it."""
        gain: Tensor | float = getattr(self.layer, self.spec.gain) if self.spec.gain else 1.0
        return gain


@dataclasses.dataclass(frozen=True)
class ModelView:
    """A model and its layers.

    Attributes:
        model: the model.
        family: the family whose specifications the layers follow.
        blocks: the layers, in order.
    """

    model: Any
    family: FamilySpec
    blocks: tuple[BlockView, ...]


def view_of(model: nn.Module, family: FamilySpec) -> ModelView:
    """The model's layers, each with the first specification of the family that fits it.

    Raises:
        ArgumentError: there is no list of layers at the family's path, or a layer fits no specification.
    """
    path = family.layers
    layers = resolve(model, path)
    if layers is None:  # in a model without a head, the path starts one attribute later
        path = path.partition(".")[2]
        layers = resolve(model, path) if path else None
    if not isinstance(layers, nn.ModuleList | nn.Sequential):
        raise ArgumentError(
            f"model: {type(model).__name__} has no list of layers at {family.layers!r}, needs one for the family "
            f"{family.name!r}; pass family=… with the right paths"
        )
    if not len(layers):
        raise ArgumentError(f"model: {type(model).__name__} has no layers at {path!r}, needs at least one")
    blocks = []
    for index, layer in enumerate(layers):
        spec = next((spec for spec in family.blocks if fits(layer, spec)), None)
        if spec is None:
            raise ArgumentError(
                f"model: layer {index} ({type(layer).__name__}) fits no block of the family {family.name!r}; "
                f"pass family=guess(model), or a FamilySpec of your own"
            )
        modules = {path: _holder(layer, path) for path in spec.paths()}
        blocks.append(BlockView(index, f"{path}.{index}", layer, spec, modules))
    return ModelView(model, family, tuple(blocks))


def fits(layer: nn.Module, spec: BlockSpec) -> bool:
    """Whether a layer has everything that a specification names."""
    attributes = [name for name in (spec.scale, spec.gain) if name]
    return all(resolve(layer, path) is not None for path in spec.paths()) and all(
        hasattr(layer, name) for name in attributes
    )


def resolve(root: nn.Module, path: str) -> Any:
    """The module or parameter at a dotted path, None where there is none."""
    value: Any = root
    for name in path.split("."):
        value = getattr(value, name, None)
        if not isinstance(value, nn.Module | torch.Tensor):
            return None
    return value


def _holder(layer: nn.Module, path: str) -> nn.Module:
    """The module at a path; of a parameter, the module that holds it."""
    value = resolve(layer, path)
    module: nn.Module = value if isinstance(value, nn.Module) else resolve(layer, path.rpartition(".")[0])
    return module

"""Checkpoints of a training: weights, Adam's state and the history so far, in one safetensors file."""

from collections.abc import Mapping
from pathlib import Path

import attrs
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ctxblocks.base.errors import ArgumentError
from ctxblocks.experiments.models import Model
from ctxblocks.runs.files import write_bytes

HISTORY = ("step", "training loss", "validation loss with context", "validation loss of updated weights")


@attrs.define
class Training:
    """A model in training: the content of a checkpoint.

    Attributes:
        model: with its weights.
        optimizer: Adam, with its state.
        history: for every evaluation the step and the losses named in `HISTORY`.
    """

    model: Model
    optimizer: torch.optim.Adam
    history: list[tuple[float, ...]]

    @property
    def step(self) -> int:
        """The number of steps taken at the last evaluation."""
        return int(self.history[-1][0]) if self.history else 0

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": value for name, value in state.items()}
        tensors["history"] = torch.tensor(self.history, dtype=torch.float64)
        write_bytes(path, safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()}))

    def load(self, path: Path) -> None:
        """Restore the training from a checkpoint.

        Raises:
            ArgumentError: the file is damaged, or that of another model.
        """
        try:
            tensors = safetensors.torch.load(path.read_bytes())
            self.model.load_state_dict(_below(tensors, "model."))
            self._load_optimizer(_below(tensors, "adam."))
            self.history = [tuple(row) for row in tensors["history"].tolist()]
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise ArgumentError(
                f"checkpoint: got {str(path)!r}, needs one of this model ({type(error).__name__}); delete it to train anew"
            ) from error

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            index, _, entry = name.partition(".")
            state.setdefault(int(index), {})[entry] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, by their names without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

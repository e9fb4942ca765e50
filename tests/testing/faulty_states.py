"""Layers that compute the same function as the correct layer, with a wrong `state_size` or a wrong `deepcopy`."""

import copy
from typing import Any

import torch
from testing.faulty_layers import Honest


class StateShrinks(Honest):
    def state_size(self, tokens: int) -> int:
        return super().state_size(tokens) % (8 * self.width)


class StateBelowZero(Honest):
    def state_size(self, tokens: int) -> int:
        return super().state_size(tokens) - 1


class StateNotAnInteger(Honest):
    def state_size(self, tokens: int) -> int:
        return super().state_size(tokens) / 2  # type: ignore[return-value]


class StateOfMode(Honest):
    def state_size(self, tokens: int) -> int:
        return super().state_size(tokens) + self.training


class StateOfDtype(Honest):
    def state_size(self, tokens: int) -> int:
        return super().state_size(tokens) * (2 if self.output.weight.dtype == torch.float64 else 1)


class StateUnchecked(Honest):
    def state_size(self, tokens: int) -> int:
        return self.width


class SharesCopies(Honest):
    def __deepcopy__(self, memo: dict[int, Any]) -> "SharesCopies":
        twin = copy.copy(self)
        twin._modules = dict(self._modules)
        return twin

"""Layers that compute the same function as the correct layer, each with a wrong `state_size`."""

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

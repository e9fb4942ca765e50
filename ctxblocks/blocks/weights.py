"""Dense layers by their numbers: one matrix or the stacked matrices of all experts, however a module stores them."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.algebra.solvers import LeastNorm
from ctxblocks.numerics import widen


@dataclasses.dataclass(frozen=True)
class LinearWeights:
    """The weight matrix of a dense layer, or those of all experts of a mixture, stored in a parameter of a module.

    Attributes:
        module: that holds the parameter.
        name: of the parameter in the module.
        transposed: whether it is stored as `(…, d, m)`, inputs as rows; else as `(…, m, d)`.
        bias: name of the parameter that holds the bias, None where there is none.
    """

    module: nn.Module
    name: str = "weight"
    transposed: bool = False
    bias: str | None = None

    @classmethod
    def of(cls, linear: nn.Linear) -> "LinearWeights":
        """Those of a `torch.nn.Linear`."""
        return cls(linear, bias=None if linear.bias is None else "bias")

    @property
    def parameter(self) -> Tensor:
        """The weights as they are stored."""
        stored: Tensor = getattr(self.module, self.name)
        return stored

    def matrices(self) -> Tensor:  # (…, m, d)
        """The weights with outputs as rows, a view."""
        return self.parameter.mT if self.transposed else self.parameter

    def takes_bias(self) -> bool:
        """Whether the layer has a bias, or uses one that it is given, as `torch.nn.Linear` does."""
        present = self.bias is not None and isinstance(getattr(self.module, self.bias), Tensor)
        return present or isinstance(self.module, nn.Linear)

    def change(self, operator: ContextOperator) -> "RankOneChange":
        """`W ← W P`, that is `W + (Wδ) kᵀ`, and `b ← b + β Wδ` where the operator has an offset [Eq. 1]."""
        matrices = self.matrices().detach()  # (m, d) or (experts, m, d)
        direction, key = operator.direction.to(matrices.device), operator.key.to(matrices.device)
        dtype = torch.promote_types(widen(matrices[:0]).dtype, widen(direction[:0]).dtype)
        parts = matrices if matrices.dim() == 3 else matrices.unsqueeze(0)
        columns = torch.stack([part.to(dtype) @ direction.to(dtype) for part in parts])  # (experts, m)
        column = columns if matrices.dim() == 3 else columns[0]
        bias = None if operator.offset is None else column * operator.offset.to(column)
        return RankOneChange(self, column, key.to(dtype), bias)

    def add_bias(
        self,
        shift: Tensor,  # (m,) or (experts, m)
    ) -> None:
        """`b ← b + shift` in place, formed in float32 for half types; a layer without a bias gets one."""
        weight = self.parameter
        with torch.no_grad():
            if self.bias is not None:
                bias: Tensor = getattr(self.module, self.bias)
                bias.copy_(widen(bias) + widen(shift).to(bias.device))
            else:
                made: Any = nn.Parameter(shift.detach().to(weight, copy=True), requires_grad=weight.requires_grad)
                self.module.bias = made


@dataclasses.dataclass(frozen=True)
class RankOneChange:
    """`W ← W + column keyᵀ` of one matrix, or of every expert's.

    Attributes:
        weights: the matrices.
        column: `(m,)`, of experts `(experts, m)`.
        key: `(d,)`, or `(experts, d)` where each has its own.
        bias: what the layer's bias gains, in the shape of `column`; None for nothing.
    """

    weights: LinearWeights
    column: Tensor
    key: Tensor
    bias: Tensor | None = None

    def add(self) -> None:
        """Write the change into the parameters in place, formed in float32 for half types and rounded once."""
        matrices = self.weights.matrices()
        matrices = matrices if matrices.dim() == 3 else matrices.unsqueeze(0)
        columns = self.column.reshape(len(matrices), -1)
        keys = self.key.expand(len(matrices), -1)
        with torch.no_grad():
            for matrix, column, key in zip(matrices, widen(columns), widen(keys), strict=True):
                matrix.copy_(torch.addr(matrix.to(column.dtype), column, key.to(column.dtype)))
        if self.bias is not None:
            self.weights.add_bias(self.bias)


def last_layer_key(
    read: Tensor,  # (…, m), or of a mixture (…, experts, m), each multiplied by its gate
    mixture: bool = False,
) -> tuple[Tensor, Tensor]:  # like read; (…) bool
    """The key with which `ΔW_down = Δb' keyᵀ` adds `Δb'` to the output of the last dense layers, and where there is none.

    It is `u / ‖u‖²` of one layer that reads `u`. The experts of a mixture put out `Σ_j g_j W_down,j u_j` together, so that
    they are one layer that reads `(g_1 u_1, …, g_E u_E)`: expert `j` gets `g_j u_j / Σ_i g_i²‖u_i‖²`, which is the change of
    least Frobenius norm over all of them [theory, Section 4].
    """
    key, _, absent = LeastNorm().key(read.flatten(-2) if mixture else read)
    return key.reshape(read.shape), absent

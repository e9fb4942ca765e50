"""The weights of dense layers, one matrix or the stacked matrices of all experts, in whatever layout a module stores them."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.algebra.solvers import LeastNorm
from ctxblocks.numerics import widen


def has_hooks(module: nn.Module) -> bool:
    """Whether a call of the module does more than its `forward`: by hooks, a `forward` of its own, or compiled.

    Hooks that are registered for all modules at once do not count: profilers and counters set them in order to observe.
    """
    if "forward" in vars(module) or module._compiled_call_impl is not None:
        return True
    own = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(own)


def foldable(module: nn.Module) -> bool:
    """Whether `module(x)` is `W x + b` of its stored weights and nothing else, so that `W` may be multiplied with others.

    That holds for a plain `torch.nn.Linear` with a floating weight: without hooks (see `has_hooks`), parametrisations and
    adapters, neither compiled nor with a `forward` of its own. Other modules have to be called.
    """
    if type(module) is not nn.Linear or has_hooks(module):
        return False
    weight = module._parameters.get("weight")  # a weight that another module computes is no parameter
    return weight is not None and type(weight) in (Tensor, nn.Parameter) and weight.is_floating_point()


@dataclasses.dataclass(frozen=True)
class LinearWeights:
    """A view of the weight matrix of a dense layer, or of the stacked matrices of all experts, in a parameter of a module.

    Attributes:
        module: the module that owns the parameter.
        name: the name of the parameter in the module.
        transposed: whether it is stored as `(…, d, m)`, with inputs as rows, instead of `(…, m, d)`.
        bias: the name of the parameter that holds the bias; None if there is none.
    """

    module: nn.Module
    name: str = "weight"
    transposed: bool = False
    bias: str | None = None

    @classmethod
    def of(cls, linear: nn.Linear) -> "LinearWeights":
        """The weights of a `torch.nn.Linear`."""
        return cls(linear, bias=None if linear.bias is None else "bias")

    @property
    def parameter(self) -> Tensor:
        """The weights in the layout in which they are stored."""
        stored: Tensor = getattr(self.module, self.name)
        return stored

    def matrices(self) -> Tensor:  # (…, m, d)
        """A view of the weights with outputs as rows."""
        return self.parameter.mT if self.transposed else self.parameter

    def takes_bias(self) -> bool:
        """Whether the layer has a bias, or would use one that is added to it, as `torch.nn.Linear` does."""
        present = self.bias is not None and isinstance(getattr(self.module, self.bias), Tensor)
        return present or isinstance(self.module, nn.Linear)

    def change(self, operator: ContextOperator) -> "RankOneChange":
        """The change of `W` to `W P = W + (Wδ) kᵀ`, and of `b` to `b + β Wδ` if the operator has an offset [Eq. 1]."""
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
        """`b ← b + shift` in place, summed in float32 for half types; a layer without a bias gets one."""
        weight = self.parameter
        with torch.no_grad():
            if self.bias is not None:
                bias: Tensor = getattr(self.module, self.bias)
                bias.copy_(widen(bias) + widen(shift).to(bias.device))
            else:
                new_bias: Any = nn.Parameter(shift.detach().to(weight, copy=True), requires_grad=weight.requires_grad)
                self.module.bias = new_bias


@dataclasses.dataclass(frozen=True)
class RankOneChange:
    """The change of `W` to `W + column keyᵀ`, for one matrix or for the matrix of every expert.

    Attributes:
        weights: the matrices to change.
        column: `(m,)`; for experts `(experts, m)`.
        key: `(d,)`, or `(experts, d)` if each expert has a different one.
        bias: the change of the bias, in the shape of `column`; None for no change.
    """

    weights: LinearWeights
    column: Tensor
    key: Tensor
    bias: Tensor | None = None

    def add(self, *others: "RankOneChange") -> None:
        """Apply the change to the parameters in place, together with others of the same weights.

        Sums are computed in float32 for half types and rounded once.
        """
        changes = (self, *others)
        matrices = self.weights.matrices()
        matrices = matrices if matrices.dim() == 3 else matrices.unsqueeze(0)
        with torch.no_grad():
            for index, matrix in enumerate(matrices):
                total = matrix
                for change in changes:
                    column, key = change.factors(index, len(matrices))
                    total = torch.addr(total.to(column.dtype), column, key)
                matrix.copy_(total)
        for change in changes:
            if change.bias is not None:
                self.weights.add_bias(change.bias)

    def factors(self, index: int, experts: int) -> tuple[Tensor, Tensor]:  # (m,), (d,)
        """Column and key of one of the matrices, half types in float32."""
        column = widen(self.column.reshape(experts, -1)[index])
        return column, self.key.expand(experts, -1)[index].to(column.dtype)


def last_layer_key(
    read: Tensor,  # u (…, m), or for a mixture g_j u_j (…, experts, m)
    mixture: bool = False,
) -> tuple[Tensor, Tensor]:  # like read; (…) bool
    """The key with which `ΔW_down = Δb' keyᵀ` adds `Δb'` to the output of the last dense layers.

    For one layer with input `u` it is `u / ‖u‖²`. The output of the experts of a mixture is `Σ_j g_j W_down,j u_j`, which is
    that of one layer with the input `(g_1 u_1, …, g_E u_E)`: the key of expert `j` is `g_j u_j / Σ_i g_i²‖u_i‖²`, which makes
    the change of least Frobenius norm over all experts together [docs/theory.md, "The place of the bias shift"].

    Returns:
        The key, and a mask that is True where there is none because the input is zero.
    """
    key, _, absent = LeastNorm().key(read.flatten(-2) if mixture else read)
    return key.reshape(read.shape), absent

"""The operator of a context: an affine rank-one map of the network's input, and products of such maps.

The effect of a context on a block's network is the map `P = I + δkᵀ` of the network's input `z`
[Thm. 2.2: `W A(C, x) = (W P) A(C∖Y, x)`]. `P` depends on no weight of the network, so it is the same for every input
projection.
"""

import dataclasses
import functools

import torch
from torch import Tensor

from ctxblocks.algebra.low_rank import LowRank
from ctxblocks.base.checks import inside_transform
from ctxblocks.base.errors import ArgumentError, ShapeError, SingularOperatorError
from ctxblocks.base.records import record
from ctxblocks.numerics import dot, stack_broadcast, widen


@record
@dataclasses.dataclass(frozen=True, eq=False)
class ContextOperator:
    """The map `z ↦ z + δ (kᵀz + β)`, batched; only `dense()` builds a matrix.

    Attributes:
        direction: `δ (…, d)`, the context vector `A(C, x) − A(C∖Y, x)`.
        key: `k (…, d)`; with the least-norm solver `A(C∖Y, x) / ‖A(C∖Y, x)‖²`.
        offset: `β (…)`; None means 0. Only the solver `Augmented` sets it.
    """

    direction: Tensor
    key: Tensor
    offset: Tensor | None = None

    def apply(
        self,
        z: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        """`z + δ (kᵀz + β)`."""
        if z.shape[-1] != self.key.shape[-1]:
            raise ShapeError(
                f"z: got width {z.shape[-1]}, needs {self.key.shape[-1]}, the operator's; pass the input of the operator's site"
            )
        return z + self.direction * self.gain(z).unsqueeze(-1).to(z.dtype)

    def gain(
        self,
        z: Tensor,  # (…, d)
    ) -> Tensor:  # (…), in the accumulator's dtype
        """`kᵀz + β`, the multiple of `δ` that is added to `z`; 1 at the base read from which the operator was computed."""
        gain = dot(self.key, z)
        return gain if self.offset is None else gain + self.offset

    def delta(
        self,
        weight: Tensor,  # (m, d), or (…, m, d)
    ) -> LowRank:  # (…, m, d)
        """`W(P − I) = (Wδ) kᵀ`: the update of the weight of one input projection [Eq. 1]."""
        return LowRank((weight @ self.direction.unsqueeze(-1)), self.key.unsqueeze(-2))

    def bias(
        self,
        weight: Tensor,  # (m, d), or (…, m, d)
    ) -> Tensor:  # (…, m)
        """`β Wδ`: the update of the bias of one input projection; zero without an offset."""
        image = (weight @ self.direction.unsqueeze(-1)).squeeze(-1)
        return torch.zeros_like(image) if self.offset is None else image * self.offset.unsqueeze(-1)

    def det(self) -> Tensor:  # (…)
        """`det P = 1 + kᵀδ`, of the linear part; all eigenvalues other than this one are 1."""
        return (1 + dot(self.key, self.direction)).to(self.key.dtype)

    def inverse(self, check: bool = True) -> "ContextOperator":
        """`P⁻¹`: direction `−δ / (1 + kᵀδ)`, same key and offset (Sherman–Morrison).

        Raises:
            SingularOperatorError: `det P = 0` for some batch element (not checked inside a transform or with `check=False`).
        """
        det = 1 + dot(self.key, self.direction)  # (…)
        if check and not inside_transform() and bool((det == 0).any()):
            raise SingularOperatorError(
                "inverse: got an operator with det P = 0 (the reads with and without context are orthogonal), needs det P ≠ 0; "
                "use another solver, such as Augmented(), whose key differs"
            )
        return ContextOperator(-self.direction / det.unsqueeze(-1).to(self.key.dtype), self.key, self.offset)

    def __matmul__(self, other: "ContextOperator") -> "OperatorProduct":
        return OperatorProduct((self, other))

    def commutator(self, other: "ContextOperator") -> LowRank:
        """`P Q − Q P = (k_Pᵀδ_Q) δ_P k_Qᵀ − (k_Qᵀδ_P) δ_Q k_Pᵀ`, of the linear parts; rank at most 2."""
        first = dot(self.key, other.direction).unsqueeze(-1).to(self.key.dtype)  # k_Pᵀδ_Q (…, 1)
        second = dot(other.key, self.direction).unsqueeze(-1).to(self.key.dtype)  # k_Qᵀδ_P (…, 1)
        columns = stack_broadcast([first * self.direction, -second * other.direction], dim=-1)
        return LowRank(columns, stack_broadcast([other.key, self.key], dim=-2))

    def dense(self) -> Tensor:  # (…, d, d)
        """`I + δkᵀ`, the dense matrix of the linear part."""
        eye = torch.eye(self.key.shape[-1], dtype=self.key.dtype, device=self.key.device)
        return eye + self.direction.unsqueeze(-1) * self.key.unsqueeze(-2)

    @classmethod
    def identity(cls, like: Tensor) -> "ContextOperator":
        """The identity, `δ = 0` and `k = 0`, in the shape, dtype and device of `like (…, d)`."""
        return cls(torch.zeros_like(like), torch.zeros_like(like))


@record
@dataclasses.dataclass(frozen=True, eq=False)
class OperatorProduct:
    """`P_1 P_2 … P_n`, stored as factors; `P_n` acts first [Eq. 31]. Time and memory to apply and store it: `O(n d)`.

    Attributes:
        factors: the operators from left to right, at least one.
    """

    factors: tuple[ContextOperator, ...]

    def apply(
        self,
        z: Tensor,  # (…, d)
    ) -> Tensor:  # (…, d)
        """`P_1(P_2(… P_n(z)))`."""
        return functools.reduce(lambda value, factor: factor.apply(value), reversed(self.factors), z)

    def delta(
        self,
        weight: Tensor,  # (m, d)
    ) -> LowRank:  # (…, m, d), rank ≤ n
        """`W (P_1 … P_n − I) = Σ_j W u_j k_jᵀ` with `u_j = P_1 … P_{j−1} δ_j`, of the linear parts."""
        low = self._minus_identity()
        return LowRank(weight @ low.columns, low.rows)

    def bias(
        self,
        weight: Tensor,  # (m, d)
    ) -> Tensor:  # (…, m)
        """`W P(0)`, the change of a bias; zero unless a factor has an offset."""
        first = self.factors[0]
        return (weight @ self.apply(torch.zeros_like(first.key)).unsqueeze(-1)).squeeze(-1)

    def det(self) -> Tensor:  # (…)
        """The product of the factors' determinants."""
        return functools.reduce(torch.mul, [factor.det() for factor in self.factors])

    def inverse(self, check: bool = True) -> "OperatorProduct":
        """`P_n⁻¹ … P_1⁻¹`.

        Raises:
            SingularOperatorError: a factor has determinant 0.
        """
        return OperatorProduct(tuple(factor.inverse(check=check) for factor in reversed(self.factors)))

    def __matmul__(self, other: "ContextOperator | OperatorProduct") -> "OperatorProduct":
        return OperatorProduct((*self.factors, *(other.factors if isinstance(other, OperatorProduct) else (other,))))

    def dense(self) -> Tensor:  # (…, d, d)
        """The dense matrix of the linear part."""
        low = self._minus_identity()
        eye = torch.eye(low.rows.shape[-1], dtype=low.rows.dtype, device=low.rows.device)
        return eye + low.dense()

    def _minus_identity(self) -> LowRank:
        if not self.factors:
            raise ArgumentError(
                "OperatorProduct: got no factors, needs at least one; the empty product is the identity"
            )
        directions = stack_broadcast([f.direction for f in self.factors], dim=-1)  # (…, d, n)
        keys = stack_broadcast([f.key for f in self.factors], dim=-2)  # (…, n, d)
        # u_j = δ_j + Σ_{i<j} u_i (k_iᵀδ_j), so U (I − T) = D with T the strict upper triangle of KD.
        triangle = torch.triu(widen(keys) @ widen(directions), diagonal=1)
        eye = torch.eye(triangle.shape[-1], dtype=triangle.dtype, device=triangle.device)
        columns = torch.linalg.solve_triangular(
            eye - triangle, widen(directions), upper=True, left=False, unitriangular=True
        )
        return LowRank(columns.to(keys.dtype), keys)

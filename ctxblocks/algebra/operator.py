"""The operator of a context: an affine rank-one map on what the network reads, and products of such maps.

A context acts on a block's network only through `P = I + δkᵀ` on the vector `z` that its first dense layers read
[Thm. 2.2: `W A(C, x) = (W P) A(C∖Y, x)`]. `P` depends on no weight of the network, so every reader takes the same one.
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
    """The map `z ↦ z + δ (kᵀz + β)`, batched, never built unless asked for.

    Attributes:
        direction: `δ (…, d)`, the context vector `A(C, x) − A(C∖Y, x)`.
        key: `k (…, d)`; with the least-norm solver `A(C∖Y, x) / ‖A(C∖Y, x)‖²`.
        offset: `β (…)`, None for 0; only `Augmented` gives one.
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
                f"z: got width {z.shape[-1]}, needs {self.key.shape[-1]}, the operator's; read it at the same site"
            )
        return z + self.direction * self.gain(z).unsqueeze(-1).to(z.dtype)

    def gain(
        self,
        z: Tensor,  # (…, d)
    ) -> Tensor:  # (…), in the accumulator's dtype
        """`kᵀz + β`, the multiple of `δ` that `z` receives; 1 at the read that the operator was made for."""
        gain = dot(self.key, z)
        return gain if self.offset is None else gain + self.offset

    def delta(
        self,
        weight: Tensor,  # (m, d), or (…, m, d)
    ) -> LowRank:  # (…, m, d)
        """`W(P − I) = (Wδ) kᵀ`: the update of one reader's weight [Eq. 1]."""
        return LowRank((weight @ self.direction.unsqueeze(-1)), self.key.unsqueeze(-2))

    def bias(
        self,
        weight: Tensor,  # (m, d), or (…, m, d)
    ) -> Tensor:  # (…, m)
        """`β Wδ`: the update of one reader's bias; zero without an offset."""
        moved = (weight @ self.direction.unsqueeze(-1)).squeeze(-1)
        return torch.zeros_like(moved) if self.offset is None else moved * self.offset.unsqueeze(-1)

    def det(self) -> Tensor:  # (…)
        """`det P = 1 + kᵀδ` (of the linear part); its only eigenvalue beside 1."""
        return (1 + dot(self.key, self.direction)).to(self.key.dtype)

    def inverse(self, check: bool = True) -> "ContextOperator":
        """`P⁻¹`: direction `−δ / (1 + kᵀδ)`, same key and offset (Sherman–Morrison).

        Raises:
            SingularOperatorError: `det P = 0` somewhere (not looked at inside a transform or with `check=False`).
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
        forth = dot(self.key, other.direction).unsqueeze(-1).to(self.key.dtype)  # (…, 1)
        back = dot(other.key, self.direction).unsqueeze(-1).to(self.key.dtype)
        columns = stack_broadcast([forth * self.direction, -back * other.direction], dim=-1)
        return LowRank(columns, stack_broadcast([other.key, self.key], dim=-2))

    def dense(self) -> Tensor:  # (…, d, d)
        """`I + δkᵀ`, the linear part as a matrix."""
        eye = torch.eye(self.key.shape[-1], dtype=self.key.dtype, device=self.key.device)
        return eye + self.direction.unsqueeze(-1) * self.key.unsqueeze(-2)

    @classmethod
    def identity(cls, like: Tensor) -> "ContextOperator":
        """`δ = 0`, `k = 0` in the shape of `like (…, d)`."""
        return cls(torch.zeros_like(like), torch.zeros_like(like))


@record
@dataclasses.dataclass(frozen=True, eq=False)
class OperatorProduct:
    """`P_1 P_2 … P_n`, kept as factors; the last acts first [Eq. 31]. `O(n d)` to apply and to store.

    Attributes:
        factors: the operators, leftmost first; at least one.
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
        """`W` times what the product makes of 0; zero unless a factor has an offset."""
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
        """The linear part as a matrix."""
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
        above = torch.triu(widen(keys) @ widen(directions), diagonal=1)
        eye = torch.eye(above.shape[-1], dtype=above.dtype, device=above.device)
        columns = torch.linalg.solve_triangular(
            eye - above, widen(directions), upper=True, left=False, unitriangular=True
        )
        return LowRank(columns.to(keys.dtype), keys)

"""Low-rank matrices: products, norms and inner products that are computed without building the dense matrix."""

import dataclasses

import torch
from torch import Tensor

from ctxblocks.base.errors import ArgumentError
from ctxblocks.base.records import record
from ctxblocks.numerics import norm, wide_matmul, widen


@record
@dataclasses.dataclass(frozen=True, eq=False)
class LowRank:
    """The matrix `columns @ rows` of rank at most `r`, batched; only `dense()` builds it.

    Attributes:
        columns: `(…, m, r)`.
        rows: `(…, r, d)`.
    """

    columns: Tensor
    rows: Tensor

    def dense(self) -> Tensor:  # (…, m, d)
        """The dense matrix."""
        return self.columns @ self.rows

    def apply(
        self,
        z: Tensor,  # (…, d)
    ) -> Tensor:  # (…, m)
        """`(columns @ rows) z`, in `O((m + d) r)`."""
        inner = wide_matmul(self.rows, z.unsqueeze(-1))  # (…, r, 1)
        return wide_matmul(self.columns, inner).squeeze(-1).to(z.dtype)

    def norm(self) -> Tensor:  # (…)
        """Frobenius norm: the product of two norms for rank one, else computed by a QR of the rows, which avoids cancellation."""
        if self.rows.shape[-2] == 1:
            return (norm(self.columns.squeeze(-1)) * norm(self.rows.squeeze(-2))).to(self.columns.dtype)
        triangle = torch.linalg.qr(widen(self.rows).mT, mode="reduced").R  # (…, min(r, d), r)
        return norm((widen(self.columns) @ triangle.mT).flatten(-2)).to(self.columns.dtype)

    def inner(self, other: "LowRank") -> Tensor:  # (…)
        """Frobenius inner product `⟨self, other⟩_F = Σ (U₁ᵀU₂) ∘ (V₁V₂ᵀ)`."""
        left = wide_matmul(self.columns.mT, other.columns)  # (…, r₁, r₂)
        right = wide_matmul(self.rows, other.rows.mT)  # (…, r₁, r₂)
        return (left * right).sum((-2, -1)).to(self.columns.dtype)

    def truncate(self, rank: int) -> "LowRank":
        """The nearest matrix of rank at most `rank` in the Frobenius norm (Eckart–Young), from an SVD of an `(r, r)` matrix.

        Raises:
            ArgumentError: `rank` is negative.
        """
        if rank < 0:
            raise ArgumentError(f"rank: got {rank}, needs an integer ≥ 0")
        left = torch.linalg.qr(widen(self.columns))  # Q (…, m, p), R (…, p, r)
        right = torch.linalg.qr(widen(self.rows).mT)  # Q (…, d, q), R (…, q, r)
        u, s, vh = torch.linalg.svd(left.R @ right.R.mT, full_matrices=False)
        columns = left.Q @ (u * s.unsqueeze(-2))[..., :rank]
        rows = vh[..., :rank, :] @ right.Q.mT
        return LowRank(columns.to(self.columns.dtype), rows.to(self.rows.dtype))

"""The error bounds of the conformance suite and of `ctxblocks verify`.

Every bound is derived from unit round-offs and from the magnitudes in the computation; none is tuned. There are three:
an elementwise bound for the *pre-activations* of the readers (the network's input projections), a tolerance for *outputs*
that is measured with a float64 copy of the block (`exactness.measure`), and the rule *fast against definition* for a fast
method and the slower definition that it must agree with.
"""

import dataclasses

import torch
from torch import Tensor, nn

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.base.errors import ArgumentError
from ctxblocks.numerics import accumulator

READERS = 4.0  # the constant c of the readers' bound
SPREAD = 3.0  # factor of the largest deviation over the Gaussian draws, and of the direct run's error
DRAWS = 8  # Gaussian draws for each tolerance
FAST = 8.0  # factor of the definition's error


@dataclasses.dataclass(frozen=True)
class Precision:
    """The unit round-offs of a dtype on a device.

    Attributes:
        product: `u`, for stored values and for the factors of a product.
        total: `u_acc`, for the type in which dot products accumulate.
    """

    product: float
    total: float

    def of_dot(self, width: int) -> float:
        """`u + d u_acc`: the error of a dot product of `d` terms, relative to the sum of their magnitudes."""
        return self.product + width * self.total


def round_off(dtype: torch.dtype) -> float:
    """`u`, half the distance from 1 to the next number: 2⁻⁵³, 2⁻²⁴, 2⁻¹¹ (float16), 2⁻⁸ (bfloat16)."""
    return torch.finfo(dtype).eps / 2


def precision(dtype: torch.dtype, device: torch.device) -> Precision:
    """Round-offs of products and sums: half types accumulate in float32, and tf32 rounds factors to 11 bits.

    No backend is assumed to accumulate float32 products in float64.
    """
    tf32 = dtype == torch.float32 and device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32
    return Precision(2.0**-11 if tf32 else round_off(dtype), round_off(accumulator(dtype)))


def reader_bound(
    reader: nn.Linear,  # W (m, d), b (m,)
    base: Tensor,  # z (…, d)
    full: Tensor,  # z' (…, d)
    operator: ContextOperator,
) -> Tensor:  # (…, m), float64
    """The error bound of a reader's output at `c = 1`: `(u + d u_acc) (|W|(|z| + |z'| + 2|δ|(|k|ᵀ|z| + |β|)) + |b|)`.

    Multiplied by `c = 4` it bounds `|fl(W z' + b) − fl(W(z + δ(kᵀz + β)) + b)|` for the stored `δ`, `k` and `β`. The two dot
    products of length `d` with `W` contribute `(u + d u_acc)|W||z'|` each, the biases `u|b|`, and the sum `z + δ·(…)`
    contributes `u|z'|`. The rest is the error of `δ·(kᵀz + β)`, multiplied by `|W|`: the rounding of `δ = z' − z`, of `k`, of
    `kᵀz` (`(u + d u_acc)|k|ᵀ|z|`) and of the product, together at most `4u + d u_acc` times `|δ|(|k|ᵀ|z| + |β|)`, since
    `kᵀz + β = 1`. Because `|W δ| ≤ |W||δ|`, the bound is the same whether `P` or `W` is applied to `z` first.
    """
    unit = precision(base.dtype, base.device).of_dot(base.shape[-1])
    z, delta, key = base.double().abs(), operator.direction.double().abs(), operator.key.double().abs()
    gain = (key * z).sum(-1, keepdim=True)  # |k|ᵀ|z| (…, 1)
    if operator.offset is not None:
        gain = gain + operator.offset.double().abs().unsqueeze(-1)
    bound = (z + full.double().abs() + 2 * delta * gain) @ reader.weight.double().abs().mT
    return unit * (bound if reader.bias is None else bound + reader.bias.double().abs())


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The errors and tolerances of the rows that were compared.

    Attributes:
        error: `(…)`, the error of each row.
        tolerance: `(…)`, the largest error allowed in each row.
        counted: `(…)`, False where a router is so near a tie that correct code may choose other experts.
        scale: `(…)`, the size to which relative errors refer; None if it was not requested.
    """

    error: Tensor
    tolerance: Tensor
    counted: Tensor
    scale: Tensor | None = None

    @property
    def ok(self) -> bool:
        """Whether every counted row is within its tolerance; NaN is not."""
        return bool(((self.error <= self.tolerance) | ~self.counted).all())

    def ratios(self) -> Tensor:  # (counted rows,)
        """Error divided by tolerance; infinite where the error is not finite, 0 where the error is 0."""
        error, tolerance = self.error[self.counted], self.tolerance[self.counted]
        ratio = torch.where(error == 0, 0, error / tolerance)
        return ratio.nan_to_num(nan=torch.inf)

    def worst(self) -> tuple[float, float]:
        """Error and tolerance of the row with the largest ratio; zeros if no row is counted."""
        ratios = self.ratios()
        if ratios.numel() == 0:
            return 0.0, 0.0
        at = int(ratios.argmax())  # an index among the counted rows
        return float(self.error[self.counted][at]), float(self.tolerance[self.counted][at])

    def relative(self) -> float:
        """The largest error relative to its scale; 0 if no row is counted.

        Raises:
            ArgumentError: the comparison has no scale.
        """
        if self.scale is None:
            raise ArgumentError(
                "relative: this comparison has no scale; compare with without=…, the output without the update"
            )
        error, scale = self.error[self.counted], self.scale[self.counted]
        relative = torch.where(error == 0, 0, error / scale).nan_to_num(nan=torch.inf)
        return float(relative.amax()) if relative.numel() else 0.0

    def __str__(self) -> str:
        error, tolerance = self.worst()
        return (
            f"worst error {error:.3e} against a tolerance of {tolerance:.3e}, {int(self.counted.sum())} of "
            f"{self.counted.numel()} rows counted"
        )


def within(error: Tensor, tolerance: Tensor) -> Comparison:
    """Compare every row of `error (…)` with `tolerance`, which is broadcast to the same shape."""
    error = error.detach().double()
    tolerance = tolerance.detach().double().expand_as(error)
    return Comparison(error, tolerance, torch.ones_like(error, dtype=torch.bool))


def fast_against_definition(
    fast: Tensor,  # (…, rows, d)
    definition: Tensor,  # (…, rows, d), in the same dtype
    exact: Tensor,  # (…, rows, d), the definition in float64 at the same input
) -> Comparison:
    """The rule `‖fast − def₆₄‖∞ ≤ 8 max over rows ‖def − def₆₄‖∞ + 8u max|def₆₄|`, for each batch element.

    A fast method adds terms in another order than the definition, so its error is compared with the definition's error.
    The second term covers definitions that happen to be exact.
    """
    return within((fast.double() - exact).abs().amax((-2, -1)), fast_tolerance(definition, exact))


def fast_tolerance(
    definition: Tensor,  # (…, rows, d)
    exact: Tensor,  # (…, rows, d), float64
) -> Tensor:  # (…)
    """The right-hand side of `fast_against_definition`."""
    own = (definition.double() - exact).abs().amax((-2, -1))
    return FAST * (own + round_off(definition.dtype) * exact.abs().amax((-2, -1)))

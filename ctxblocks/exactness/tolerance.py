"""How equal is equal: every bound that the suite and `ctxblocks verify` hold an error against.

All of them are derived from unit round-offs and from magnitudes that the computation itself shows; none is tuned.
Three rules: the *readers' pre-activations* have an elementwise bound, the *outputs* are measured with the block's own
float64 copy, and a *fast* method is held against its definition.
"""

import dataclasses

import torch
from torch import Tensor, nn

from ctxblocks.algebra.operator import ContextOperator
from ctxblocks.base.errors import ArgumentError
from ctxblocks.numerics import accumulator

READERS = 4.0  # c, of the readers' bound
SPREAD = 3.0  # times the largest of the Gaussian draws, and times the direct run's own error
DRAWS = 8
FAST = 8.0  # times the definition's own error


@dataclasses.dataclass(frozen=True)
class Precision:
    """The unit round-offs of a dtype on a device.

    Attributes:
        product: `u`, of stored values and of the factors of a product.
        total: `u_acc`, of the type in which dot products accumulate.
    """

    product: float
    total: float

    def of_dot(self, width: int) -> float:
        """`u + d u_acc`: the relative error of a dot product of `d` terms, against the sum of their magnitudes."""
        return self.product + width * self.total


def round_off(dtype: torch.dtype) -> float:
    """`u`, half the distance from 1 to the next number: 2⁻⁵³, 2⁻²⁴, 2⁻¹¹ (float16), 2⁻⁸ (bfloat16)."""
    return torch.finfo(dtype).eps / 2


def precision(dtype: torch.dtype, device: torch.device) -> Precision:
    """Round-offs of products and sums: half types accumulate in float32, tf32 rounds factors to 11 bits.

    No backend is taken to accumulate float32 in float64.
    """
    tf32 = dtype == torch.float32 and device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32
    return Precision(2.0**-11 if tf32 else round_off(dtype), round_off(accumulator(dtype)))


def reader_bound(
    reader: nn.Linear,  # W (m, d), b (m,)
    base: Tensor,  # z (…, d)
    full: Tensor,  # z' (…, d)
    operator: ContextOperator,
) -> Tensor:  # (…, m), float64
    """`(u + d u_acc) (|W|(|z| + |z'| + 2|δ|(|k|ᵀ|z| + |β|)) + |b|)`, the bound at `c = 1` of a reader's output.

    With `c = 4` it bounds `|fl(W z' + b) − fl(W(z + δ(kᵀz + β)) + b)|`, `δ` and `k` as stored. The two dot products of length
    `d` with `W` give `(u + d u_acc)|W||z'|` each, the biases `u|b|`, the sum `z + δ·(…)` gives `u|z'|`. What is left is an
    error of `δ·(kᵀz + β)`: rounding of `δ = z' − z`, of `k`, of `kᵀz` (`(u + d u_acc)|k|ᵀ|z|`), and of the product, under
    `|W|`: no more than `4u + d u_acc` times `|δ|(|k|ᵀ|z| + |β|)`, since `kᵀz + β = 1`. The same holds where `P` acts on
    `z` before `W` does and where `W` acts first: `|W δ| ≤ |W||δ|`.
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
    """Errors beside what they may be, one of each for every row compared.

    Attributes:
        error: `(…)`.
        tolerance: `(…)`.
        counted: `(…)`, False where a near-tie of a router lets right code choose other experts.
        scale: `(…)`, what the error is relative to; None where no such measure is asked for.
    """

    error: Tensor
    tolerance: Tensor
    counted: Tensor
    scale: Tensor | None = None

    @property
    def ok(self) -> bool:
        """Whether every row counted is within its tolerance (NaN is not)."""
        return bool(((self.error <= self.tolerance) | ~self.counted).all())

    def ratios(self) -> Tensor:  # (rows counted,)
        """Error over tolerance; infinite where the error is not finite, 0 where both vanish."""
        error, tolerance = self.error[self.counted], self.tolerance[self.counted]
        ratio = torch.where(error == 0, 0, error / tolerance)
        return ratio.nan_to_num(nan=torch.inf)

    def worst(self) -> tuple[float, float]:
        """Error and tolerance of the row with the largest ratio; zeros where no row counts."""
        ratios = self.ratios()
        if ratios.numel() == 0:
            return 0.0, 0.0
        at = int(ratios.argmax())  # of the rows counted
        return float(self.error[self.counted][at]), float(self.tolerance[self.counted][at])

    def relative(self) -> float:
        """The largest error relative to its scale; 0 where no row counts.

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
    """Every row of `error (…)` against `tolerance`, which broadcasts to it."""
    error = error.detach().double()
    tolerance = tolerance.detach().double().expand_as(error)
    return Comparison(error, tolerance, torch.ones_like(error, dtype=torch.bool))


def fast_against_definition(
    fast: Tensor,  # (…, rows, d)
    definition: Tensor,  # (…, rows, d), in the same dtype
    exact: Tensor,  # (…, rows, d), the definition in float64 at the same input
) -> Comparison:
    """`‖fast − def₆₄‖∞ ≤ 8 max over rows ‖def − def₆₄‖∞ + 8u max|def₆₄|`, for each batch element.

    A fast method adds in another order than the definition, so the definition's own error is the measure; the second term
    is for definitions that happen to be exact.
    """
    return within((fast.double() - exact).abs().amax((-2, -1)), fast_tolerance(definition, exact))


def fast_tolerance(
    definition: Tensor,  # (…, rows, d)
    exact: Tensor,  # (…, rows, d), float64
) -> Tensor:  # (…)
    """The right-hand side of `fast_against_definition`."""
    own = (definition.double() - exact).abs().amax((-2, -1))
    return FAST * (own + round_off(definition.dtype) * exact.abs().amax((-2, -1)))

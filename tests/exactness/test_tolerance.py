"""The three error bounds: correct code stays within them, and faulty code does not."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from ctxblocks import Augmented, ContextOperator, LeastNorm, Metric, MixtureOfExperts, PlainBlock, Read, create
from ctxblocks.base.errors import ArgumentError
from ctxblocks.blocks.update import ImplicitUpdate
from ctxblocks.exactness.measure import Measure, Transferred, chosen_sets, gap
from ctxblocks.exactness.tolerance import (
    Comparison,
    fast_against_definition,
    precision,
    reader_bound,
    round_off,
    within,
)
from ctxblocks.testing.theorem_draws import moved

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
CPU = torch.device("cpu")


def gaussian(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_round_offs() -> None:
    """2⁻⁵³, 2⁻²⁴, 2⁻⁸ and 2⁻¹¹; half types accumulate in float32."""
    assert [round_off(dtype) for dtype in DTYPES] == [2.0**-53, 2.0**-24, 2.0**-8, 2.0**-11]
    assert [precision(dtype, CPU).total for dtype in DTYPES] == [2.0**-53, 2.0**-24, 2.0**-24, 2.0**-24]
    assert precision(torch.bfloat16, CPU).of_dot(16) == 2.0**-8 + 2.0**-20


@pytest.fixture
def _tf32() -> Iterator[None]:
    """tf32 products are allowed during the test."""
    torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32 = False


@pytest.mark.usefixtures("_tf32")
def test_tf32_rounds_factors_to_11_bits_on_cuda_only() -> None:
    """With tf32 allowed, factors have 11 bits on CUDA; sums are in float32, and no float32 sum is assumed to be in float64."""
    cuda = torch.device("cuda")
    assert (precision(torch.float32, cuda).product, precision(torch.float32, cuda).total) == (2.0**-11, 2.0**-24)
    assert precision(torch.float32, CPU).product == 2.0**-24
    assert precision(torch.float64, cuda).product == 2.0**-53


@settings(deadline=None, max_examples=200)
@given(
    dtype=st.sampled_from(DTYPES),
    width=st.integers(1, 200),
    logs=st.tuples(st.floats(-2, 2), st.floats(-2, 2)),
    solver=st.sampled_from(("LeastNorm", "Augmented", "Metric")),
    seed=st.integers(0, 2**32 - 1),
)
def test_readers_stay_within_four_bounds(
    dtype: torch.dtype, width: int, logs: tuple[float, float], solver: str, seed: int
) -> None:
    """`W z'` against `W P z`, with `P` or `W` applied first, at scales from 1e-2 to 1e2."""
    generator = torch.Generator().manual_seed(seed)
    z, full = ((10**log * gaussian(generator, 3, width)).to(dtype) for log in logs)
    reader = nn.Linear(width, 5, dtype=torch.float64)
    nn.init.normal_(reader.weight, generator=generator)
    nn.init.normal_(reader.bias, generator=generator)
    metric = torch.diag(torch.rand(width, generator=generator) + 0.5).to(dtype)
    chosen = {"LeastNorm": LeastNorm(), "Augmented": Augmented(), "Metric": Metric(metric)}[solver]
    reader = reader.to(dtype)
    with torch.no_grad():
        operator = chosen.solve(z, full)
        direct, first, bound = reader(full), reader(operator.apply(z)), reader_bound(reader, z, full, operator)
        update = operator.delta(reader.weight).columns.squeeze(-1) * operator.gain(z).unsqueeze(-1).to(dtype)
    for got in (first, reader(z) + update):
        assert ((got.double() - direct.double()).abs() <= 4 * bound).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_readers_without_the_operator_are_far_beyond(dtype: torch.dtype) -> None:
    """The bound has the size of rounding errors: without the operator the error exceeds it by more than `0.01/u`."""
    generator = torch.Generator().manual_seed(0)
    z, full, reader = gaussian(generator, 8).to(dtype), gaussian(generator, 8).to(dtype), nn.Linear(8, 5).to(dtype)
    with torch.no_grad():
        bound = reader_bound(reader, z, full, LeastNorm().solve(z, full))
        ratio = (reader(z).double() - reader(full).double()).abs() / bound
    assert ratio.max() > 0.01 / round_off(dtype)


def test_fast_against_definition() -> None:
    """Eight times the error of the definition is allowed, and eight units of round-off if the definition is exact."""
    exact = torch.tensor([[1.0, 2.0], [3.0, -4.0]], dtype=torch.float64)
    definition = exact.to(torch.float32)
    unit = 2.0**-24
    assert fast_against_definition((exact + 31 * unit).double(), definition, exact).ok
    assert not fast_against_definition((exact + 33 * unit).double(), definition, exact).ok
    off = (exact + 1e-3).to(torch.float32)
    assert fast_against_definition(exact + 7.9e-3, off, exact).ok
    assert not fast_against_definition(exact + 8.2e-3, off, exact).ok


def test_a_comparison_counts_nan_as_wrong() -> None:
    """A NaN error exceeds every bound; rows that are not counted are ignored."""
    nan = torch.tensor([0.0, torch.nan])
    comparison = within(nan, torch.ones(2))
    assert not comparison.ok
    assert comparison.ratios().tolist() == [0.0, torch.inf]
    ignored = Comparison(nan.double(), torch.ones(2).double(), torch.tensor([True, False]))
    assert ignored.ok
    assert ignored.worst() == (0.0, 1.0)
    assert Comparison(nan, nan, torch.tensor([False, False])).worst() == (0.0, 0.0)
    assert str(ignored) == "worst error 0.000e+00 against a tolerance of 1.000e+00, 1 of 2 rows counted"
    with pytest.raises(ArgumentError, match="compare with without="):
        ignored.relative()


def test_gaps_and_sets_of_experts() -> None:
    """The gap is the least chosen logit minus the largest other one, and infinite if all experts are chosen."""
    logits = torch.tensor([[3.0, -1.0, 2.5, 0.0]])
    assert chosen_sets(logits, 2).tolist() == [[0, 2]]
    assert gap(logits, 2).tolist() == [2.5]
    assert gap(logits, 4).tolist() == [torch.inf]


@pytest.mark.parametrize(("margin", "counted"), [(2.0**-22, False), (0.01, True)])
def test_only_a_near_tie_of_a_router_is_left_out(margin: float, counted: bool) -> None:
    """A choice of other experts is not counted within the logits' tolerance, and a fault beyond it."""
    layer = create("rnn", width=3)
    network = MixtureOfExperts(3, 4, experts=2, active=1)
    with torch.no_grad():
        network.router.weight.copy_(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    block = PlainBlock(layer, network)
    base, full = torch.tensor([0.5, 0.5, 0.2]), torch.tensor([1.0, 1.0 + margin, 0.3])
    patched = torch.tensor([1.0 + margin, 1.0, 0.3])  # a run on the other side of the tie
    operator = ContextOperator(patched - base, LeastNorm().key(base)[0])
    with torch.no_grad():
        used = Transferred(torch.zeros(3), Read(base), Read(full), ImplicitUpdate(operator))
        comparison = Measure(block).outputs(used, network(patched), network(full))
    assert bool(comparison.counted) == counted
    assert comparison.ok == (not counted)


def test_where_the_context_matters() -> None:
    """It matters if an entry changes by more than 1/256 of the largest entry."""
    base = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert moved(base, base + torch.tensor([[0.0, 0.003], [0.0, 0.005]])).tolist() == [False, True]

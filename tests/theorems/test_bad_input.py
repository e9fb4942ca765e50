"""Bad input: every error is typed and says which argument it is about, what it got, what it needs and what to do."""

from collections.abc import Callable

import pytest
import torch
from theorems.helpers import BLOCKS, Pool, block, problem
from torch import nn

from ctxblocks import (
    MLP,
    ArgumentError,
    Augmented,
    CtxblocksError,
    DtypeError,
    Dynamics,
    GatedMLP,
    ImplicitUpdate,
    LeastNorm,
    Metric,
    MixtureOfExperts,
    NonFiniteError,
    ParallelBlock,
    PlainBlock,
    ResidualBlock,
    ShapeError,
    SingularOperatorError,
    Solver,
    Stack,
    dynamics,
    factorize,
    finetune,
    transfer,
    transfer_generation,
)

PLAIN = block("plain")
QUERY, CONTEXT = problem(2)
STACK = Stack([block("skip"), block("pre-norm")])
CASES: list[tuple[str, type[CtxblocksError], str, Callable[[], object]]] = [
    ("query width", ShapeError, r"query: got shape \(2, 3\), needs \(…, 4\)", lambda: PLAIN(QUERY[..., :3], CONTEXT)),
    ("query integer", DtypeError, r"query: got torch.int64, needs a floating", lambda: PLAIN(QUERY.long(), CONTEXT)),
    ("query list", DtypeError, r"query: got list, needs", lambda: PLAIN([1.0] * 4, CONTEXT)),
    (
        "query dtype",
        DtypeError,
        r"query: got torch.float32, needs torch.float64",
        lambda: PLAIN(QUERY.float(), CONTEXT),
    ),
    ("context width", ShapeError, r"context: got shape \(2, 5, 3\), needs", lambda: PLAIN(QUERY, CONTEXT[..., :3])),
    ("context rank", ShapeError, r"context: got shape \(4,\), needs \(…, n, 4\)", lambda: PLAIN(QUERY, CONTEXT[0, 0])),
    ("context batch", ShapeError, r"context: got batch shape \(1,\), needs \(2,\)", lambda: PLAIN(QUERY, CONTEXT[:1])),
    ("context dtype", DtypeError, r"context: got torch.float32", lambda: PLAIN(QUERY, CONTEXT.float())),
    (
        "query NaN",
        NonFiniteError,
        r"query: got NaN or inf.* 8 of 8",
        lambda: transfer(PLAIN, QUERY * torch.nan, CONTEXT),
    ),
    ("context inf", NonFiniteError, r"context: got NaN", lambda: dynamics(PLAIN, QUERY, CONTEXT * torch.inf)),
    ("suffix inf", NonFiniteError, r"context: got NaN", lambda: factorize(PLAIN, QUERY, CONTEXT * torch.inf)),
    ("reduced", ShapeError, r"reduced: got batch shape", lambda: transfer(PLAIN, QUERY, CONTEXT, CONTEXT[:1])),
    (
        "keep range",
        ArgumentError,
        r"keep: got \[7\], needs strictly",
        lambda: transfer(PLAIN, QUERY, CONTEXT, keep=[7]),
    ),
    ("keep order", ArgumentError, r"keep: got \[2, 1\]", lambda: transfer(PLAIN, QUERY, CONTEXT, keep=[2, 1])),
    ("keep mask", ArgumentError, r"keep: got \[True", lambda: transfer(PLAIN, QUERY, CONTEXT, keep=torch.ones(5) > 0)),
    (
        "keep and",
        ArgumentError,
        r"keep: got it together with",
        lambda: transfer(PLAIN, QUERY, CONTEXT, CONTEXT, keep=[1]),
    ),
    ("patch", ArgumentError, r"patch_kept: .*keep=", lambda: transfer(PLAIN, QUERY, CONTEXT, patch_kept=True)),
    ("site", ArgumentError, r"site: got 'mlp', needs", lambda: transfer(PLAIN, QUERY, CONTEXT, site="mlp")),
    ("place", ArgumentError, r"place: got 'bias', needs", lambda: transfer(PLAIN, QUERY, CONTEXT, place="bias")),
    ("solver", ArgumentError, r"solver: got 'least'", lambda: transfer(PLAIN, QUERY, CONTEXT, solver="least")),
    ("solvers", ArgumentError, r"one for each of 2", lambda: transfer(STACK, QUERY, CONTEXT, solver=[LeastNorm()])),
    ("metric", ShapeError, r"matrix: .*needs \(4, 4\)", lambda: transfer(PLAIN, QUERY, CONTEXT, solver=metric(3))),
    ("definite", SingularOperatorError, r"matrix: .*λI", lambda: transfer(PLAIN, QUERY, CONTEXT, solver=metric(4, -1))),
    ("stack query", ShapeError, r"query: got shape \(2, 3\)", lambda: transfer(STACK, QUERY[..., :3], CONTEXT)),
    ("stack updates", ArgumentError, r"one for each of 2 blocks", lambda: STACK(QUERY, update=[])),
    ("stack empty", ArgumentError, r"blocks: got none", lambda: Stack([])),
    ("stack widths", ShapeError, r"block 1 has width 3", lambda: Stack([block("plain"), wide(3)])),
    ("factor stack", ArgumentError, r"block: got Stack", lambda: factorize(STACK, QUERY, CONTEXT)),
    ("tune stack", ArgumentError, r"block: got Stack", lambda: finetune(STACK, QUERY, CONTEXT, 0.1)),
    ("no task", ShapeError, r"query: .*an empty batch", lambda: finetune(PLAIN, QUERY[:0], CONTEXT[:0], 0.1)),
    ("lr", ArgumentError, r"lr: got -1", lambda: finetune(PLAIN, QUERY, CONTEXT, -1)),
    ("empty prompt", ShapeError, r"at least one token", lambda: transfer_generation(PLAIN, CONTEXT[:, :0], CONTEXT)),
    ("network width", ShapeError, r"network: got width 3, needs 4", lambda: PlainBlock(Pool(), MLP(3, 5))),
    ("activation", ArgumentError, r"activation: got 'swish'", lambda: MLP(4, 5, activation="swish")),
    ("gated activation", ArgumentError, r"activation: got 'swish'", lambda: GatedMLP(4, 5, activation="swish")),
    ("experts", ArgumentError, r"active: got 3 of 2", lambda: MixtureOfExperts(4, 5, experts=2, active=3)),
    ("norm", ArgumentError, r"norm: got 'mid', needs", lambda: ResidualBlock(Pool(), MLP(4, 5), norm="mid")),
    ("own skip", ArgumentError, r"layer: got .* its own skip connection", lambda: ResidualBlock(skipping(), MLP(4, 5))),
    ("own skip too", ArgumentError, r"use PlainBlock", lambda: ParallelBlock(skipping(), MLP(4, 5))),
    ("merged", ShapeError, r"merged: .*batch shape \(2,\)", lambda: transfer(PLAIN, QUERY, CONTEXT).merged(PLAIN)),
    ("update batch", ShapeError, r"update: got batch shape \(2,\)", lambda: PLAIN(problem(3)[0], update=made())),
    ("update dtype", DtypeError, r"update: got torch.float32", lambda: PLAIN(QUERY, update=made(torch.float32))),
    ("no reader", ArgumentError, r"reader: got 'gate', needs", lambda: steps().weight(1, "gate")),
    ("no prefix", ArgumentError, r"i: got 6, needs 0 ≤ i < 6", lambda: steps().weight(6)),
    ("no step", ArgumentError, r"i: got 5, needs 0 ≤ i < 5", lambda: steps().gradient(5)),
    ("no token", ArgumentError, r"i: got 6, needs 1 ≤ i", lambda: factorize(PLAIN, QUERY, CONTEXT).factor(6)),
    ("solver's step", ArgumentError, r"needs LeastNorm\(\)", lambda: steps(Augmented()).step_size),
    ("moving base", ArgumentError, r"base read depends", lambda: dynamics(STACK, QUERY, CONTEXT)[1].gradient(0)),
    ("parallel", ArgumentError, r"parallel block", lambda: dynamics(block("parallel"), QUERY, CONTEXT).step_size),
    ("state size", ArgumentError, r"tokens: got -1, needs an integer ≥ 0.*give 0", lambda: Pool().state_size(-1)),
    ("state half", ArgumentError, r"tokens: got 2.5, needs an integer", lambda: Pool().state_size(2.5)),
    ("sequence", ShapeError, r"sequence: .*width 3 .*causal\(", lambda: cross()(torch.ones(2, 4))),
]


def metric(width: int, scale: float = 1.0) -> Metric:
    return Metric(scale * torch.eye(width, dtype=torch.float64))


def wide(width: int) -> PlainBlock:
    return PlainBlock(Pool(width), MLP(width, 5))


def skipping() -> Pool:
    layer = Pool()
    layer.has_skip = True
    return layer


def made(dtype: torch.dtype = torch.float64) -> ImplicitUpdate:
    return transfer(block("plain").to(dtype), QUERY.to(dtype), CONTEXT.to(dtype))


def steps(solver: Solver = LeastNorm()) -> Dynamics:
    return dynamics(PLAIN, QUERY, CONTEXT, solver=solver)


def cross() -> Callable[[torch.Tensor], torch.Tensor]:
    layer = Pool()
    layer.context_width = 3
    return layer.sequence


@pytest.mark.parametrize(("error", "message", "call"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bad_input_is_a_typed_error(error: type[CtxblocksError], message: str, call: Callable[[], object]) -> None:
    """The error has its type, is also a ValueError, and its one-line message says what the argument got and needs."""
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", BLOCKS)
def test_places_that_a_block_lacks_are_refused(kind: str) -> None:
    """`transfer` refuses `last-layer` for sandwich blocks and `post-norm` for all others."""
    wrong = "last-layer" if kind == "sandwich" else "post-norm"
    with pytest.raises(ArgumentError, match=rf"place: got '{wrong}'.*output-bias"):
        transfer(block(kind), QUERY, CONTEXT, place=wrong)  # type: ignore[arg-type]


def test_update_of_a_skip_block_is_refused_by_a_plain_one() -> None:
    """A plain block has no residual stream to which a bias shift could be added."""
    update = transfer(block("skip"), QUERY, CONTEXT)
    with pytest.raises(ArgumentError, match="which has no residual stream"):
        PLAIN(QUERY, update=update)


def test_update_of_another_site_is_refused_by_width() -> None:
    """An update of the output projection has the width of the projection's input."""
    update = transfer(block("skip"), QUERY, CONTEXT, site="out-proj")
    with pytest.raises(ShapeError, match="update: got width 5, needs 4"):
        block("skip")(QUERY, update=ImplicitUpdate(update.operator))


def test_post_norm_place_needs_a_norm_with_a_scale() -> None:
    """A norm without a scale is refused, and the message names a place that works."""
    bare = ResidualBlock(
        Pool(), MLP(4, 5), norm="sandwich", norm_class=lambda width: nn.LayerNorm(width, elementwise_affine=False)
    )
    with pytest.raises(ArgumentError, match=r"has no weight.*output-bias"):
        transfer(bare.double(), QUERY, CONTEXT, place="post-norm")


def test_unchecked_values_pass_through() -> None:
    """With `check=False` NaN in the input gives NaN in the output and no error."""
    update = transfer(PLAIN, QUERY * torch.nan, CONTEXT, check=False)
    assert PLAIN(QUERY * torch.nan, update=update).isnan().all()

"""All prefixes at once: rows in chunks, stacks in one pass, and norms `‖W x‖` that neither over- nor underflow."""

import pytest
import torch
from theorems.helpers import BLOCKS, NETWORKS, Pool, block, problem
from torch import nn

from ctxblocks import ArgumentError, Dynamics, OutOfMemoryError, Stack, dynamics
from ctxblocks.numerics import image_norm

U = 2.0**-53


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("net", NETWORKS)
@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_every_chunk_gives_the_same_dynamics(kind: str, net: str, chunk: int) -> None:
    """Outputs and updated outputs do not depend on the number of rows per chunk, up to rounding."""
    made, (query, context) = block(kind, net), problem(2)
    whole, parts = dynamics(made, query, context, chunk=1000), dynamics(made, query, context, chunk=chunk)
    torch.testing.assert_close(parts.outputs, whole.outputs, rtol=1e-13, atol=1e-14)
    torch.testing.assert_close(parts.updated_outputs(), whole.updated_outputs(), rtol=1e-13, atol=1e-14)


def test_the_network_processes_rows_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates do not call the network; outputs call it with at most `chunk` rows of the batch, and with every row once."""
    made, (query, context) = block("pre-norm"), problem(2)
    rows, forward = [], made.network.forward
    monkeypatch.setattr(
        made.network, "forward", lambda z, *more: (rows.append(z[..., 0].numel()), forward(z, *more))[1]
    )
    steps = dynamics(made, query, context, chunk=4)
    assert rows == []
    assert steps.outputs.shape == (*context.shape[:-2], 6, query.shape[-1])
    assert (max(rows), sum(rows)) == (4, 12)
    steps.updated_outputs()
    assert (max(rows), sum(rows)) == (4, 24)


@pytest.mark.parametrize("chunk", [0, -3])
def test_a_chunk_without_rows_is_refused(chunk: int) -> None:
    """The message names the number of rows and says what is valid."""
    with pytest.raises(ArgumentError, match=f"chunk: got {chunk}, needs at least 1, or None"):
        dynamics(block("plain"), *problem(), chunk=chunk)


def test_a_context_too_long_for_memory_is_refused_before_anything_is_computed() -> None:
    """The message names the tokens, the memory and the chunk; the context is one expanded number and takes no memory."""
    made, context = block("plain"), torch.zeros(1, 1, dtype=torch.float64).expand(10**13, 4)
    with pytest.raises(
        OutOfMemoryError, match=r"got 10000000000000 tokens of width 4, whose dynamics need at least .*chunk="
    ):
        dynamics(made, torch.zeros(4, dtype=torch.float64), context, check=False)


def test_a_refused_allocation_names_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's error for a failed allocation is raised as `OutOfMemoryError`, with the size that was requested."""
    made, refusal = block("plain"), RuntimeError("can't allocate memory: you tried to allocate 1073741824 bytes.")

    def refuse(*arguments: object) -> None:
        raise refusal

    monkeypatch.setattr(made.layer, "prefixes", refuse)
    with pytest.raises(OutOfMemoryError, match=r"whose dynamics need 1(\.0+)? GiB at once, .*chunk=") as raised:
        dynamics(made, *problem())
    assert raised.value.__cause__ is refusal


@pytest.mark.parametrize("kind", [kind for kind in BLOCKS if kind != "parallel"])
def test_the_key_of_a_constant_base_read_is_stored_once(kind: str) -> None:
    """In a first block the base read has one row, and its key is expanded to `n + 1` rows without a copy."""
    steps = dynamics(block(kind), *problem(2, n=9))
    assert isinstance(steps, Dynamics)
    assert steps.updates.operator.key.shape == (2, 10, 4)
    assert steps.updates.operator.key.untyped_storage().nbytes() <= 2 * 4 * 8


@pytest.mark.parametrize("n", [0, 1, 6])
@pytest.mark.parametrize("count", [1, 3])
def test_prefixes_of_a_stack_are_its_outputs(count: int, n: int) -> None:
    """Row `i` of `Stack.prefixes` is the output of the stack with the first `i` tokens as context."""
    stack = Stack(
        [block(kind, seed=seed) for seed, kind in enumerate(("pre-norm", "post-norm", "sandwich")[:count])],
        nn.Linear(3, 4, dtype=torch.float64),
        nn.Linear(4, 2, dtype=torch.float64),
    )
    query, context = problem(2, n=n, width=3)
    wanted = torch.stack([stack(query, context[:, :i]) for i in range(n + 1)], dim=-2)
    got = stack.prefixes(query, context)
    assert got.shape == (2, n + 1, 2)
    torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-13)


def test_prefixes_of_a_stack_process_the_context_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block but the last computes the context's activations once, and the first block uses one copy of the query."""
    stack, calls = Stack([block("pre-norm", seed=seed) for seed in range(3)]), []
    for name in ("sequence", "prefixes", "causal"):
        method = getattr(Pool, name)
        monkeypatch.setattr(
            Pool, name, lambda self, *args, name=name, method=method: (calls.append(name), method(self, *args))[1]
        )
    stack.prefixes(*problem())
    outer = [
        name for name, previous in zip(calls, ["", *calls], strict=False) if previous not in ("sequence", "prefixes")
    ]
    assert outer == ["prefixes", "sequence", "causal", "sequence", "causal"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [-1, 0, 1])
def test_image_norms_neither_over_nor_underflow(dtype: torch.dtype, scale: int) -> None:
    """`‖W x‖` at the ends of the dtype's range, where a sum of squares is 0 or infinite; at `x = 0` norm and gradient are 0."""
    size = torch.finfo(dtype).max ** (0.45 * scale)
    weights = [size * torch.eye(3, dtype=dtype), size * torch.ones(1, 3, dtype=dtype)]
    x = size * torch.tensor([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]], dtype=dtype)
    x.requires_grad_()
    norms = image_norm(weights, x)
    wanted = float(size) ** 2 * 34**0.5  # 9 + 25
    assert abs(norms[0].item() - wanted) <= 8 * torch.finfo(dtype).eps * wanted
    assert norms[1] == 0
    assert (torch.autograd.grad(norms.sum(), x)[0][1] == 0).all()


@pytest.mark.parametrize("rows", [63, 64, 400])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_norms_of_many_images_equal_those_of_few(rows: int, dtype: torch.dtype) -> None:
    """Without a gradient, norms of many `W x` are computed as `‖R x‖` with `W = QR`; they are equal, also for singular `W`."""
    torch.manual_seed(rows)
    x, one = torch.randn(rows, 4).to(dtype), torch.randn(9, 4).to(dtype)
    weights = [one, torch.randn(3, 4).to(dtype), torch.cat([one[:, :1]] * 4, dim=-1)]
    images = torch.cat([x.double() @ weight.double().mT for weight in weights], dim=-1)
    unit = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    bound = 20 * unit * torch.cat(weights).double().norm() * x.double().norm(dim=-1)  # m + n + d operations an entry
    assert ((image_norm(weights, x) - images.norm(dim=-1)).abs() <= bound).all()


@pytest.mark.parametrize("kind", BLOCKS)
def test_outputs_equal_the_block_with_every_prefix(kind: str) -> None:
    """`Dynamics.outputs` equals `T(C_i, x)` computed by one forward pass for each `i`."""
    made, (query, context) = block(kind), problem(2)
    rows = [made(query, context[..., :i, :]) for i in range(context.shape[-2] + 1)]
    torch.testing.assert_close(dynamics(made, query, context).outputs, torch.stack(rows, -2), rtol=1e-12, atol=1e-13)

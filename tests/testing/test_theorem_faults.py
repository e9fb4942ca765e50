"""Planted faults of the package fail the theorem group and `verify`; the correct code does not."""

from collections.abc import Callable, Iterator

import pytest
import torch
from testing import faulty_layers as layers
from torch import Tensor

from ctxblocks import (
    ContextOperator,
    GatedMLP,
    ImplicitUpdate,
    LayerSpec,
    LeastNorm,
    MixtureOfExperts,
    Read,
    ResidualBlock,
)
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.networks import LastLayerUpdate
from ctxblocks.exactness.verify import VerifyRow, verify
from ctxblocks.testing import theorem
from ctxblocks.testing.cases import Conformance

pytestmark = pytest.mark.usefixtures("first_failure")

DTYPES = (torch.float64, torch.float32)
Plant = Callable[[pytest.MonkeyPatch], None]


def gate_but_not_up(patch: pytest.MonkeyPatch) -> None:
    """Only one of the two readers of a gated network takes the operator."""

    def forward(
        self: GatedMLP, z: Tensor, operator: ContextOperator | None = None, last: LastLayerUpdate | None = None
    ) -> Tensor:
        moved = z if operator is None else operator.apply(z)
        output: Tensor = self.down(self.activation(self.gate(moved)) * self.up(z))
        return output

    patch.setattr(GatedMLP, "forward", forward)


def router_left_out(patch: pytest.MonkeyPatch) -> None:
    """The experts of a mixture take the operator, its router does not."""

    def forward(
        self: MixtureOfExperts, z: Tensor, operator: ContextOperator | None = None, last: LastLayerUpdate | None = None
    ) -> Tensor:
        moved = z if operator is None else operator.apply(z)
        outputs = torch.stack([expert(moved) for expert in self.experts], dim=-2)
        return (self.gates(z).unsqueeze(-1) * outputs).sum(-2)

    patch.setattr(MixtureOfExperts, "forward", forward)


def complete_with(join: Callable[[ContextualBlock, Tensor, Tensor, Tensor], Tensor], norms: tuple[str, ...]) -> Plant:
    """A `complete` that combines bypass, shift and network output by `join`, in residual blocks with these norms."""
    right = ContextualBlock.complete

    def complete(self: ContextualBlock, read: Read, update: ImplicitUpdate | None = None) -> Tensor:
        faulty = isinstance(self, ResidualBlock) and self.norm in norms
        if not faulty or update is None or update.shift is None or read.bypass is None:
            return right(self, read, update)
        return join(self, read.bypass, update.shift, self.network(read.z, update.operator))

    return lambda patch: patch.setattr(ContextualBlock, "complete", complete)


def length_once(patch: pytest.MonkeyPatch) -> None:
    """`W δ zᵀ / ‖z‖` instead of `/ ‖z‖²`."""

    def key(self: LeastNorm, z: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        length = z.norm(dim=-1, keepdim=True)
        return z / torch.where(length == 0, 1, length), None, (length == 0).squeeze(-1)

    patch.setattr(LeastNorm, "key", key)


def no_operator(patch: pytest.MonkeyPatch) -> None:
    """The operator has no effect on the readers."""
    patch.setattr(ContextOperator, "apply", lambda self, z: z)


FAULTS: dict[str, tuple[Plant, tuple[str, ...]]] = {  # by name: the fault, and blocks in which it has an effect
    "gate updated but not up": (gate_but_not_up, ("plain/gated", "skip/gated", "pre-norm/gated", "post-norm/gated")),
    "router left out": (router_left_out, ("plain/moe", "skip/moe", "sandwich/moe")),
    "shift left out": (
        complete_with(lambda block, r, shift, out: block.join(r, out), ("none", "pre", "post", "sandwich")),
        ("skip/mlp", "pre-norm/gated", "post-norm/mlp", "sandwich/moe"),
    ),
    "shift inside the norm of a sandwich": (
        complete_with(lambda block, r, shift, out: block.join(r, out + shift), ("sandwich",)),
        ("sandwich/mlp", "sandwich/gated", "sandwich/moe"),
    ),
    "shift after a post-norm": (
        complete_with(lambda block, r, shift, out: block.join(r, out) + shift, ("post",)),
        ("post-norm/mlp", "post-norm/gated", "post-norm/moe"),
    ),
    "divided by the length, not its square": (length_once, ("plain/gated", "skip/gated", "pre-norm/gated")),
    "operator left out": (no_operator, ("plain/gated", "skip/gated", "post-norm/gated", "sandwich/gated")),
}


@pytest.fixture
def honest() -> Iterator[LayerSpec]:
    """A correct layer, registered during the test."""
    with layers.registered(layers.spec()) as spec:
        yield spec


def rows(spec: LayerSpec, dtype: torch.dtype) -> dict[str, VerifyRow]:
    """The rows of `verify` for this layer and dtype, by block."""
    return {row.block: row for row in verify([spec.name], device="cpu", dtypes=[dtype], examples=8)}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("plant", "blocks"), FAULTS.values(), ids=FAULTS)
def test_verify_catches(
    plant: Plant, blocks: tuple[str, ...], dtype: torch.dtype, honest: LayerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each block in which the fault has an effect exceeds its bound by more than a factor of 10."""
    plant(monkeypatch)
    results = rows(honest, dtype)
    for block in blocks:
        print(f"{block}: {results[block].ratio:.3g}")
    assert not any(results[block].ok for block in blocks)
    assert min(results[block].ratio for block in blocks) > 10


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("plant", [plant for plant, _ in FAULTS.values()], ids=FAULTS)
def test_the_property_catches(
    plant: Plant, dtype: torch.dtype, honest: LayerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The identity of the suite fails too."""
    plant(monkeypatch)
    with pytest.raises(AssertionError, match="worst error"):
        theorem.test_transfer_is_exact(Conformance(spec=honest, dtypes=(dtype,), max_examples=200))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_right_code_keeps_its_bounds(dtype: torch.dtype, honest: LayerSpec) -> None:
    """Without a fault every row is within its bound."""
    assert all(row.ok and row.ratio < 1 for row in rows(honest, dtype).values())


@pytest.mark.parametrize("name", theorem.__all__)
@pytest.mark.parametrize("layer", [layers.Honest, layers.Cross], ids=["honest", "cross-attention"])
def test_no_property_fails_on_right_code(name: str, layer: type) -> None:
    """Every statement holds for a correct layer, also if tokens and queries differ in width."""
    getattr(theorem, name)(Conformance(spec=layers.spec(layer), max_examples=20))

"""A layer variant with its tokens, its block and its reference, and the calls that are measured."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ctxblocks.algebra.solvers import Augmented, LeastNorm, Solver
from ctxblocks.base.errors import DegenerateQueryError
from ctxblocks.base.messages import describe
from ctxblocks.bench.config import BenchConfig, Variant
from ctxblocks.bench.records import Measurement
from ctxblocks.bench.timing import Call
from ctxblocks.blocks.networks import MLP
from ctxblocks.blocks.residual import PlainBlock
from ctxblocks.registration.registry import create
from ctxblocks.theorems.dynamics import dynamics

DIFFERENCE = {"float64": 1e-6, "float32": 1e-3, "bfloat16": 0.1, "float16": 0.05}
"""The most by which a reference may differ from `sequence`, relative to the largest entry, before that is noted."""


class Subject:
    """A layer of one variant with random weights, one query and one context of the greatest length.

    Args:
        variant: of which layer.
        config: width, dtype, seed and chunk.
        device: where.
    """

    def __init__(self, variant: Variant, config: BenchConfig, device: torch.device) -> None:
        self.variant = variant
        self.chunk = config.chunk
        self.dtype = config.dtype
        self.seconds: dict[str, dict[int, float]] = {}
        """Of calls made so far, by function and length."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.layer = create(variant.spec.name, width=config.width, **variant.options)
            network = MLP(config.width, 4 * config.width)
            query = torch.randn(config.width)
            context = torch.randn(config.lengths[-1], self.layer.context_width)
        self.layer = self.layer.to(device, config.torch_dtype).eval()
        self.block = PlainBlock(self.layer, network.to(device, config.torch_dtype)).eval()
        self.query, self.context = query.to(device, config.torch_dtype), context.to(device, config.torch_dtype)

    def calls(self, length: int) -> dict[str, Call]:
        """What can be called with a context of that length, by the names in `FUNCTIONS`, the loop left out."""
        context = self.context[:length]
        found: dict[str, Call] = {
            "prefixes": lambda: self.layer.prefixes(self.query, context),
            "suffixes": lambda: self.layer.suffixes(self.query, context),
            "dynamics": lambda: self._dynamics(context),
        }
        if self.layer.context_width == self.layer.width:
            found["sequence"] = lambda: self.layer.sequence(context)
            found["block"] = lambda: self.block.sequence(context)
        if callable(self.reference):
            reference, batch = self.reference, context.unsqueeze(0)
            found["reference"] = lambda: reference(batch)
        return found

    def missing(self, name: str) -> Measurement:
        """Why a function is not among the calls."""
        if name == "reference" and isinstance(self.reference, Measurement):
            return self.reference
        width = f"its tokens have width {self.layer.context_width} and its queries {self.layer.width}"
        return Measurement(status="absent", note=f"{name}: {width}")

    def single(self, length: int) -> Call:
        """The layer called once, on that many tokens."""
        context = self.context[:length]
        return lambda: self.layer(self.query, context)

    def loop(self, length: int) -> Call:
        """The layer called on each prefix of that many tokens.

        No output is kept: between the tensors of growing size that the calls work on, it would keep their memory apart.
        """

        def every_prefix() -> None:
            for i in range(length + 1):
                self.layer(self.query, self.context[:i])

        return every_prefix

    def difference(self, length: int) -> str | None:
        """What to note where the reference computes something else than `sequence`, or None."""
        if not callable(self.reference):
            return None
        mine, theirs = self.layer.sequence(self.context[:length]), self.reference(self.context[:length].unsqueeze(0))[0]
        gap = float((mine - theirs).abs().max() / mine.abs().max())
        return f"differs from sequence by {gap:.1e}, relative" if not gap <= DIFFERENCE[self.dtype] else None

    @cached_property
    def reference(self) -> Callable[[Tensor], Tensor] | Measurement:
        """Another library's `sequence`, or why there is none."""
        if self.variant.spec.reference is None:
            return Measurement(status="absent", note="the plugin names none")
        try:
            return self.variant.spec.reference(self.layer)
        except ImportError as error:
            return Measurement(status="not installed", note=describe(error))

    def _dynamics(self, context: Tensor) -> Tensor:  # (n,)
        call: Callable[..., Any] = dynamics
        chunk = {} if self.chunk is None else {"chunk": self.chunk}
        return call(self.block, self.query, context, solver=self.solver, **chunk).marginal_norms()  # type: ignore[no-any-return]

    @cached_property
    def solver(self) -> Solver:
        """`LeastNorm`, or `Augmented` where the read without context is zero."""
        try:
            dynamics(self.block, self.query, self.context[:1])
        except DegenerateQueryError:
            return Augmented()
        return LeastNorm()

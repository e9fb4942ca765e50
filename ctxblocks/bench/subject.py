"""A layer variant with its tokens, block and reference implementation, and the functions to be measured."""

from collections.abc import Callable
from functools import cached_property

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
"""The largest difference between a reference and `sequence`, relative to the largest entry, that is not reported."""


class Subject:
    """A layer variant with random weights, one query, and one context of the largest length.

    Args:
        variant: the layer and its options.
        config: settings, of which width, lengths, dtype, seed and chunk are used.
        device: device of the layer and the tokens.
    """

    def __init__(self, variant: Variant, config: BenchConfig, device: torch.device) -> None:
        self.variant = variant
        self.chunk = config.chunk
        self.dtype = config.dtype
        self.seconds: dict[str, dict[int, float]] = {}
        """Seconds of a call so far, by function and length."""
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
        """The functions for a context of this length, by their names in `FUNCTIONS`, without the loop."""
        context = self.context[:length]
        calls: dict[str, Call] = {
            "prefixes": lambda: self.layer.prefixes(self.query, context),
            "suffixes": lambda: self.layer.suffixes(self.query, context),
            "dynamics": lambda: self._dynamics(context),
        }
        if self.layer.context_width == self.layer.width:
            calls["sequence"] = lambda: self.layer.sequence(context)
            calls["block"] = lambda: self.block.sequence(context)
        if callable(self.reference):
            reference, batch = self.reference, context.unsqueeze(0)
            calls["reference"] = lambda: reference(batch)
        return calls

    def missing(self, name: str) -> Measurement:
        """The reason why a function is not among the calls, as a measurement."""
        if name == "reference" and isinstance(self.reference, Measurement):
            return self.reference
        width = f"its tokens have width {self.layer.context_width} and its queries {self.layer.width}"
        return Measurement(status="absent", note=f"{name}: {width}")

    def single(self, length: int) -> Call:
        """One call of the layer on a context of this length."""
        context = self.context[:length]
        return lambda: self.layer(self.query, context)

    def loop(self, length: int) -> Call:
        """One call of the layer on every prefix of a context of this length.

        The outputs are discarded: stored between the growing temporaries of the calls, they would fragment the memory.
        """

        def every_prefix() -> None:
            for i in range(length + 1):
                self.layer(self.query, self.context[:i])

        return every_prefix

    def difference(self, length: int) -> str | None:
        """A note if the reference's output differs from that of `sequence`, else None."""
        if not callable(self.reference):
            return None
        ours, theirs = self.layer.sequence(self.context[:length]), self.reference(self.context[:length].unsqueeze(0))[0]
        largest = float((ours - theirs).abs().max() / ours.abs().max())
        return f"differs from sequence by {largest:.1e}, relative" if not largest <= DIFFERENCE[self.dtype] else None

    @cached_property
    def reference(self) -> Callable[[Tensor], Tensor] | Measurement:
        """The `sequence` of another library, or a measurement with the reason why there is none."""
        if self.variant.spec.reference is None:
            return Measurement(status="absent", note="the plugin names none")
        try:
            return self.variant.spec.reference(self.layer)
        except ImportError as error:
            return Measurement(status="not installed", note=describe(error))

    def _dynamics(self, context: Tensor) -> Tensor:  # (n,)
        return dynamics(self.block, self.query, context, solver=self.solver, chunk=self.chunk).marginal_norms()

    @cached_property
    def solver(self) -> Solver:
        """`LeastNorm()`, or `Augmented()` if the read without context is zero."""
        try:
            dynamics(self.block, self.query, self.context[:1])
        except DegenerateQueryError:
            return Augmented()
        return LeastNorm()

"""The identity of Theorem 2.2 on every layer, block and dtype: the worst error and its bound."""

import copy
import math
import warnings
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor

from ctxblocks.base.errors import DtypeError
from ctxblocks.base.messages import listed
from ctxblocks.base.threads import one_thread
from ctxblocks.blocks.block import ContextualBlock
from ctxblocks.blocks.layer import ContextualLayer
from ctxblocks.exactness.dtypes import DTYPES, MISSING
from ctxblocks.exactness.identity import identity
from ctxblocks.exactness.kinds import KINDS, admits, build, make_layer
from ctxblocks.exactness.measure import Measure
from ctxblocks.registration.requests import device_of, specs_of
from ctxblocks.registration.specs import LayerSpec
from ctxblocks.validators import integer_at_least, seed_of

BATCH = 8  # queries in one batch
TOKENS = 6  # length of the longest context
RELATIVE = 1e-12  # the largest relative error allowed in float64


@attrs.frozen(kw_only=True)
class VerifyRow:
    """The identity on one layer, block and dtype.

    Attributes:
        layer: name of the layer.
        block: block and network, such as `pre-norm/gated`.
        dtype: name of the dtype, such as `float32`.
        device: type of the device, such as `cpu`.
        examples: number of comparisons; every query is compared twice, with all and with a part of its context removed.
        left_out: comparisons that were dropped because a router was near a tie.
        error: the largest entry of `|out with update − out with context|` in the row with the largest ratio to its bound.
        bound: the error that rounding allows in that row.
        relative: the largest error relative to `max(‖out‖, ‖out without update‖, ‖W_down‖‖W‖‖z‖)`, with Euclidean and spectral
            norms.
        ok: whether every error is within its bound, and in float64 every relative error is at most 1e-12.
    """

    layer: str
    block: str
    dtype: str
    device: str
    examples: int
    left_out: int
    error: float
    bound: float
    relative: float
    ok: bool

    @property
    def ratio(self) -> float:
        """Error divided by bound; infinite if the error is not finite, or if the bound is 0 and the error is not."""
        return _ratio((self.error, self.bound))


@attrs.frozen(kw_only=True)
class VerifyPlan:
    """The checked arguments of `verify`, and the rows to compute.

    Attributes:
        rows: layer, block kind, dtype and configurations of every row.
        notes: one line for every layer and dtype that is left out because the device lacks an operation.
        device, examples, seed: the arguments of `verify`.
    """

    rows: tuple[tuple[LayerSpec, str, str, tuple[Any, ...]], ...]
    notes: tuple[str, ...]
    device: torch.device
    examples: int
    seed: int

    def run(self) -> Iterator[VerifyRow]:
        """Yield the results row by row, in order."""
        for row in self.rows:
            with one_thread():
                result = _verify_row(self, *row)
            yield result


def verify(
    layers: Sequence[str] | None = None,
    *,
    device: str = "auto",
    dtypes: Sequence[str | torch.dtype] | None = None,
    examples: int = 16,
    seed: int = 0,
) -> list[VerifyRow]:
    """Check Theorem 2.2 on layers, in every kind of block and every dtype; each combination gives one row [Thm. 2.2, B.2].

    The configurations are the layers' examples. Contexts have 1 to 6 tokens, and are removed once in full and once in part
    [Cor. 2.5.1]. If the read without context is zero, the message of the error is checked and `Augmented()` is used.

    Args:
        layers: names of registered layers; by default all of them.
        device: `"auto"` (a GPU if there is one), `"cpu"` or `"cuda"`.
        dtypes: names or torch dtypes; by default float64, float32, bfloat16 and float16. If the device lacks an operation
            in one of the default dtypes, that dtype is left out with a warning.
        examples: number of queries for each row.
        seed: seed of all random numbers.

    Raises:
        UnknownLayerError, PluginError: a layer is not registered, or all layers are requested and a plugin failed.
        DeviceError: `device="cuda"` without a GPU.
        DtypeError: a dtype is unknown, or the device lacks an operation in a dtype that was requested.
        ArgumentError: `examples` is not a positive integer, or `seed` not an integer from 0 to `2**64 − 1`.
    """
    plan = plan_verify(layers, device, dtypes, examples, seed)
    for note in plan.notes:
        warnings.warn(note, stacklevel=2)
    return list(plan.run())


def plan_verify(
    layers: Sequence[str] | None,
    device: str,
    dtypes: Sequence[str | torch.dtype] | None,
    examples: int,
    seed: int,
) -> VerifyPlan:
    """Check the arguments of `verify` and list the rows to compute."""
    integer_at_least(1).check("examples", examples)
    examples, seed = int(examples), seed_of(seed)
    place, rows, notes = device_of(device), [], []
    for spec in specs_of(layers):
        offered = [make_layer(spec, config, 0) for config in spec.examples]
        for dtype in DTYPES if dtypes is None else dict.fromkeys(map(_dtype_name, dtypes)):
            lack = _lack(offered, DTYPES[dtype], place)
            if lack is not None and dtypes is not None:
                raise DtypeError(
                    f"dtypes: got {dtype}, which layer {spec.name!r} cannot run on {place}: {lack}; leave it out"
                )
            if lack is not None:
                notes.append(f"layer {spec.name!r}: {dtype} is left out on {place}: {lack}")
                continue
            for kind in KINDS:
                fitting = zip(spec.examples, offered, strict=True)
                configs = tuple(config for config, layer in fitting if admits(kind, layer))
                rows += [(spec, kind, dtype, configs)] if configs else []
    return VerifyPlan(rows=tuple(rows), notes=tuple(notes), device=place, examples=examples, seed=seed)


def _dtype_name(dtype: str | torch.dtype) -> str:
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise DtypeError(f"dtypes: got {name!r}, needs some of {listed(DTYPES)}")
    return name


def _lack(layers: Sequence[ContextualLayer], dtype: torch.dtype, device: torch.device) -> str | None:
    """Torch's message if the device lacks an operation of a layer, network or norm in the dtype; else None."""
    for layer in layers:
        kind = "sandwich/moe" if admits("sandwich/moe", layer) else "plain/moe"
        block = build(kind, copy.deepcopy(layer).to(device, dtype), 0)
        query = torch.zeros(2, layer.width, dtype=dtype, device=device)
        try:
            block(query, torch.zeros(2, 2, layer.context_width, dtype=dtype, device=device))
        except (RuntimeError, NotImplementedError) as error:
            if MISSING not in str(error):
                raise
            return str(error)
    return None


def _verify_row(plan: VerifyPlan, spec: LayerSpec, kind: str, dtype: str, configs: tuple[Any, ...]) -> VerifyRow:
    pairs, examples, left_out, relative, ok = [], 0, 0, 0.0, True
    for number, start in enumerate(range(0, plan.examples, BATCH)):
        config = configs[(KINDS.index(kind) + number) % len(configs)]
        seed = zlib.crc32(f"{plan.seed}/{spec.name}/{kind}/{number}".encode())
        layer = make_layer(spec, config, seed).to(plan.device, DTYPES[dtype])
        measure = Measure(build(kind, layer, seed + 2), seed)
        for partial in (False, True):
            query, context, keep = _drawn(measure.block, min(BATCH, plan.examples - start), partial, seed)
            result = identity(measure, query, context, context[..., keep, :])
            examples, left_out = examples + int(result.counted.sum()), left_out + int((~result.counted).sum())
            pairs.append(result.worst())
            relative, ok = max(relative, result.relative()), ok and result.ok
    worst = max(pairs, key=_ratio)
    ok = ok and examples > 0 and (dtype != "float64" or relative <= RELATIVE)
    return VerifyRow(
        layer=spec.name,
        block=kind,
        dtype=dtype,
        device=plan.device.type,
        examples=examples,
        left_out=left_out,
        error=worst[0],
        bound=worst[1],
        relative=relative,
        ok=ok,
    )


def _drawn(block: ContextualBlock, batch: int, partial: bool, seed: int) -> tuple[Tensor, Tensor, list[int]]:
    """Queries `(b, d)`, contexts `(b, n, d_context)`, and the rows of the context that stay: none, or some."""
    generator = torch.Generator().manual_seed(seed + partial)
    tokens = int(torch.randint(1, TOKENS + 1, (), generator=generator))
    stays = torch.rand(tokens, generator=generator) < 0.5
    stays[int(torch.randint(tokens, (), generator=generator))] = False  # at least one row is removed
    like = next(block.parameters())
    query = torch.randn(batch, block.width, generator=generator, dtype=torch.float64).to(like)
    context = torch.randn(batch, tokens, block.layer.context_width, generator=generator, dtype=torch.float64).to(like)
    return query, context, stays.nonzero().flatten().tolist() if partial else []


def _ratio(pair: tuple[float, float]) -> float:
    """Error divided by bound; infinite if the error is not finite, or if the bound is 0 and the error is not."""
    error, bound = pair
    if not math.isfinite(error) or (bound == 0 and error > 0):
        return math.inf
    return error / bound if bound else 0.0

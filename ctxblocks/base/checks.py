"""Checks of shapes, dtypes and devices, and of values; the latter copy to the host, so they run outside transforms only."""

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensor

from ctxblocks.base.errors import DeviceError, DtypeError, NonFiniteError, ShapeError


def inside_transform() -> bool:
    """Whether values cannot be read: in `torch.compile`, a functorch transform (`vmap`, `grad`, …) or a CUDA graph capture."""
    if torch.compiler.is_compiling():
        return True
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    return torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()


def readable(*tensors: Tensor) -> bool:
    """Whether values can be read: outside transforms, of tensors that are neither on the meta device nor fake."""
    return not inside_transform() and not any(each.is_meta or isinstance(each, FakeTensor) for each in tensors)


def check_like(name: str, got: Tensor, wanted: Tensor, wanted_name: str) -> None:
    """Raise unless `got` has the dtype and device of `wanted`."""
    if got.dtype != wanted.dtype:
        raise DtypeError(
            f"{name}: got {got.dtype}, needs {wanted.dtype} as {wanted_name} has; "
            f"convert one of them, for instance {name}.to({wanted.dtype})"
        )
    if got.device != wanted.device:
        raise DeviceError(
            f"{name}: got device {got.device}, needs {wanted.device} as {wanted_name} has; move it with .to('{wanted.device}')"
        )


def check_vector(name: str, got: Tensor, width: int) -> None:
    """Raise unless `got` is a floating `(…, width)` tensor."""
    if not isinstance(got, Tensor):
        raise DtypeError(
            f"{name}: got {type(got).__name__}, needs a floating-point torch.Tensor; wrap it with torch.as_tensor"
        )
    if not got.is_floating_point():
        raise DtypeError(f"{name}: got {got.dtype}, needs a floating-point dtype; convert it with .to(torch.float32)")
    if got.dim() < 1 or got.shape[-1] != width:
        raise ShapeError(
            f"{name}: got shape {tuple(got.shape)}, needs (…, {width}), the layer's width last; "
            f"check the last dimension or build the layer with that width"
        )


def check_module(name: str, got: Tensor, module: nn.Module) -> None:
    """Raise unless `got` has the dtype and device of the module's parameters; under autocast nothing is checked."""
    first = next(module.parameters(), None)
    kind = got.device.type  # the meta device has no autocast
    if first is None or (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        return
    check_like(name, got, first, f"the parameters of {type(module).__name__}")


def check_tokens(name: str, got: Tensor, query: Tensor, width: int) -> None:
    """Raise unless `got` is a `(…, n, width)` context for the `(…, d)` query."""
    if not isinstance(got, Tensor):
        raise DtypeError(f"{name}: got {type(got).__name__}, needs a torch.Tensor of shape (…, n, {width})")
    if got.dim() < 2 or got.shape[-1] != width:
        raise ShapeError(
            f"{name}: got shape {tuple(got.shape)}, needs (…, n, {width}) with n ≥ 0 tokens; "
            f"for no context pass an empty one, torch.empty(…, 0, {width})"
        )
    if got.shape[:-2] != query.shape[:-1]:
        raise ShapeError(
            f"{name}: got batch shape {tuple(got.shape[:-2])}, needs {tuple(query.shape[:-1])} as the query has; "
            f"expand one to the other's batch shape"
        )
    check_like(name, got, query, "the query")


def check_call(
    module: nn.Module, query: Tensor, context: Tensor, width: int, context_width: int, name: str = "context"
) -> None:
    """Raise unless query and context are valid arguments of `module(query, context)`."""
    check_vector("query", query, width)
    check_module("query", query, module)
    check_tokens(name, context, query, context_width)


def check_causal(layer: nn.Module, queries: Tensor, context: Tensor, width: int, context_width: int) -> None:
    """Raise unless the arguments of `layer.causal(queries, context)` are valid, with one more query than tokens."""
    check_vector("queries", queries, width)
    check_module("queries", queries, layer)
    if queries.dim() < 2 or queries.shape[-2] == 0:
        raise ShapeError(f"queries: got shape {tuple(queries.shape)}, needs (…, n + 1, {width})")
    check_tokens("context", context, queries[..., 0, :], context_width)
    if queries.shape[-2] != context.shape[-2] + 1:
        raise ShapeError(
            f"queries: got {queries.shape[-2]} rows for a context of {context.shape[-2]} tokens, needs one row more than "
            f"tokens (q_0 … q_n, where q_i sees c_1 … c_i)"
        )


def check_sequence(layer: nn.Module, tokens: Tensor, width: int) -> None:
    """Raise unless `tokens` is a valid argument of `layer.sequence`."""
    check_vector("tokens", tokens, width)
    check_module("tokens", tokens, layer)
    if tokens.dim() < 2:
        raise ShapeError(
            f"tokens: got shape {tuple(tokens.shape)}, needs (…, n, {width}); add the axis of tokens with [None]"
        )


def check_batch(name: str, got: Tensor, wanted: Tensor) -> None:
    """Raise unless the batch shapes of `got (…, p)` and `wanted (…, q)` broadcast, with equal dtypes and devices."""
    check_like(name, got, wanted, "the query")
    batch, needed = got.shape[:-1], wanted.shape[:-1]
    pairs = zip(reversed(batch), reversed(needed), strict=False)
    if any(mine != theirs and 1 not in (mine, theirs) for mine, theirs in pairs):
        raise ShapeError(
            f"{name}: got batch shape {tuple(batch)}, needs one that broadcasts with {tuple(needed)}, the query's; "
            f"select a part of it by indexing, or give the query the same batch dimensions"
        )


def check_finite(name: str, got: Tensor, advice: str) -> None:
    """Raise if `got` contains NaN or infinity. It copies to the host, so it is called outside transforms only."""
    if all_finite(got):
        return
    bad = int((~torch.isfinite(got)).sum())
    if bad:
        raise NonFiniteError(
            f"{name}: got NaN or infinity in {bad} of {got.numel()} entries, needs finite values; {advice}"
        )


def all_finite(got: Tensor) -> bool:
    """Whether every entry is finite: one pass over the sum, and another only where the sum is NaN or infinite."""
    return bool(torch.isfinite(got.detach().sum())) or bool(torch.isfinite(got).all())

"""Softmax attention of many queries at once, by torch's fused kernels.

Here the axis of heads comes before that of rows: queries are `(…, heads, rows, f)`, keys and values `(…, kv_heads, rows, f)`.
"""

import dataclasses
import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ctxblocks import inside_transform
from ctxblocks.numerics import widen
from ctxblocks_attention.derivatives import is_dual, twice_differentiable


@dataclasses.dataclass(frozen=True)
class Reads:
    """The inputs of causal attention with `n + 1` queries: `n` keys and values of the context, and those of each query itself.

    Attributes:
        queries: `(…, heads, n + 1, f)`.
        keys: `(…, kv_heads, n, f)`.
        values: `(…, kv_heads, n, f)`.
        self_scores: `(…, heads, n + 1)`, the queries' products with their own keys, float32 for half types.
        self_values: `(…, heads, n + 1, f)`, or one row for all.
        scale: factor of all scores, `self_scores` included.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    self_scores: Tensor
    self_values: Tensor
    scale: float


def attend(
    queries: Tensor,  # (…, heads, rows, f)
    keys: Tensor,  # (…, kv_heads, columns, f)
    values: Tensor,  # (…, kv_heads, columns, f)
    scale: float,
    seen: Tensor | None = None,  # (…, 1, rows, columns), bool
) -> Tensor:  # (…, heads, rows, f)
    """Softmax attention; row `i` attends to the columns marked in `seen`, or without it to columns `0 … i`.

    Inside transforms of `torch.func` and for forward-mode derivatives, which the fused kernels do not support, it is computed
    by plain products, and so are second derivatives.
    """
    compiling = torch.compiler.is_compiling()
    if (inside_transform() and not compiling) or is_dual(queries, keys, values):
        return _attend_plainly(queries, keys, values, scale, seen)
    plainly = functools.partial(_attend_plainly, scale=scale, seen=seen)
    lead = queries.shape[:-3]
    q, k, v = (x.reshape(math.prod(lead), *x.shape[-3:]) for x in (queries, keys, values))
    grouped = queries.shape[-3] != keys.shape[-3]
    fused = functools.partial(
        F.scaled_dot_product_attention, attn_mask=seen, is_causal=seen is None, scale=scale, enable_gqa=grouped
    )
    tracked = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    mixed = twice_differentiable(fused, plainly, q, k, v) if tracked and not compiling else fused(q, k, v)
    return mixed.reshape(*lead, *mixed.shape[-3:])


def _attend_plainly(queries: Tensor, keys: Tensor, values: Tensor, scale: float, seen: Tensor | None) -> Tensor:
    """`attend` by products and a softmax, in float32 for half types."""
    group = queries.shape[-3] // keys.shape[-3]
    k, v = (widen(x).repeat_interleave(group, dim=-3) for x in (keys, values))
    if seen is None:
        seen = torch.ones(queries.shape[-2], keys.shape[-2], dtype=torch.bool, device=queries.device).tril()
    scores = (widen(queries) * scale) @ k.mT
    return (torch.softmax(scores.masked_fill(~seen, -math.inf), dim=-1) @ v).to(queries.dtype)


def causal_with_self(reads: Reads) -> Tensor:  # (…, heads, n + 1, f)
    """Query `i` attends to tokens `1 … i` and to itself: causal attention with an additional first key, the self slot."""
    if _merges(reads):
        return merged_with_self(reads)
    queries, key_slot, value_slot = _slotted(reads)
    keys = _prepended(key_slot, _padded(reads.keys, queries.shape[-1]))
    values = _prepended(value_slot, _padded(reads.values, queries.shape[-1]))
    return _merged(attend(queries, keys, values, reads.scale), reads)


def merged_with_self(reads: Reads) -> Tensor:  # (…, heads, n + 1, f)
    """The same without a self slot: `p_self = σ(s_self − lse)`, with the log-sum-exp of the scores of tokens `1 … i`.

    Torch's CPU kernel returns its log-sum-exp, but silently without a gradient, so this serves only where none is needed.
    """
    lead = reads.queries.shape[:-2]
    later = reads.queries[..., 1:, :].contiguous()  # the kernel is slow with expanded queries
    parts = (x.reshape(-1, *x.shape[-3:]) for x in (later, reads.keys, reads.values))
    mixed, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*parts, is_causal=True, scale=reads.scale)
    own = reads.self_values.expand(*lead, reads.queries.shape[-2], -1)
    share = torch.sigmoid(reads.self_scores[..., 1:] * reads.scale - lse.reshape(*lead, -1)).unsqueeze(-1)
    rows = torch.lerp(mixed.reshape(later.shape).to(share.dtype), own[..., 1:, :].to(share.dtype), share)
    return torch.cat((own[..., :1, :], rows.to(own.dtype)), dim=-2)


def _merges(reads: Reads) -> bool:
    """Whether `merged_with_self` applies: on a CPU, no gradient, no transform, and one key head for each query head."""
    tensors = (reads.queries, reads.keys, reads.values, reads.self_scores, reads.self_values)
    tracked = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    fits = reads.queries.shape[-3] == reads.keys.shape[-3] and reads.keys.shape[-2] > 0
    plain = reads.queries.device.type == "cpu" and not tracked and not inside_transform() and not is_dual(*tensors)
    return fits and plain


def banded_with_self(reads: Reads, window: int, block: int) -> Tensor:  # (…, heads, n + 1, f)
    """Query `i` attends to tokens `i − window + 1 … i` and itself, in blocks of `block ≥ window` rows, each with a self slot."""
    lead, rows = reads.queries.shape[:-2], reads.queries.shape[-2]
    blocks = -(-rows // block)
    queries, key_slot, value_slot = _slotted(reads)
    queries = F.pad(queries, (0, 0, 0, blocks * block - rows)).reshape(
        math.prod(lead), blocks, block, queries.shape[-1]
    )
    keys = _prepended(key_slot, _near(_padded(reads.keys, queries.shape[-1]), blocks, window, block))
    values = _prepended(value_slot, _near(_padded(reads.values, queries.shape[-1]), blocks, window, block))
    keys, values = (x.reshape(math.prod(x.shape[:-3]), *x.shape[-3:]).movedim(1, 0) for x in (keys, values))
    seen = _band(blocks, block, window, queries.device)
    mixed = attend(queries.movedim(1, 0), keys, values, reads.scale, seen)  # (blocks, … heads, block, f')
    return _merged(mixed.movedim(0, 1).reshape(*lead, blocks * block, mixed.shape[-1])[..., :rows, :], reads)


def _near(
    x: Tensor,  # (…, n, f)
    blocks: int,
    window: int,
    block: int,
) -> Tensor:  # (…, blocks, window + block − 1, f)
    """The tokens that a block of queries attends to: the last `window` before it, and all but the last in it."""
    padded = F.pad(x, (0, 0, block, blocks * block - x.shape[-2]))
    grid = padded.reshape(*x.shape[:-2], blocks + 1, block, x.shape[-1])
    return torch.cat((grid[..., :-1, block - window :, :], grid[..., 1:, : block - 1, :]), dim=-2)


def _band(blocks: int, block: int, window: int, device: torch.device) -> Tensor:  # (blocks, 1, block, block + window)
    """The columns that a row of a block attends to: the self slot, then the `window` columns just before its position."""
    row = torch.arange(block, device=device).unsqueeze(-1)
    column = torch.arange(block + window - 1, device=device)
    near = (column >= row) & (column < row + window)
    starts = torch.arange(blocks, device=device).view(-1, 1, 1, 1) * block
    is_token = starts + column >= window  # rather than padding before the first token
    return F.pad(near & is_token, (1, 0), value=True)


def _slotted(reads: Reads) -> tuple[Tensor, Tensor, Tensor]:  # (…, heads, n + 1, f'), (f',), (f',)
    """Queries with their self scores as further features, and the key and value of the self slot.

    In half precision a score is stored as three features that sum to `s / 64`, with 64 in the key: a single feature would
    round the score and overflow float16. The number of features is a multiple of 8, which fused kernels require.
    """
    width, dtype = reads.queries.shape[-1], reads.queries.dtype
    if dtype in (torch.float16, torch.bfloat16):
        parts, rest, factor = [], reads.self_scores / 64, 64.0
        for _ in range(3):
            parts.append(rest.to(dtype))
            rest = rest - parts[-1].to(rest.dtype)
    else:
        parts, factor = [reads.self_scores], 1.0
    spare = -(width + len(parts)) % 8
    queries = F.pad(torch.cat((reads.queries, torch.stack(parts, dim=-1)), dim=-1), (0, spare))
    key = F.pad(queries.new_full((len(parts),), factor), (width, spare))
    value = F.pad(queries.new_ones(1), (width, spare + len(parts) - 1))
    return queries, key, value


def _padded(
    x: Tensor,  # (…, f)
    features: int,
) -> Tensor:  # (…, features)
    """`x`, padded with features of 0."""
    return F.pad(x, (0, features - x.shape[-1]))


def _prepended(
    slot: Tensor,  # (f,)
    x: Tensor,  # (…, n, f)
) -> Tensor:  # (…, n + 1, f)
    """`x` with the self slot as its first row."""
    return torch.cat((slot.expand(*x.shape[:-2], 1, -1), x), dim=-2)


def _merged(
    mixed: Tensor,  # (…, heads, n + 1, f'): Σ p_j v_j, then p_self
    reads: Reads,
) -> Tensor:  # (…, heads, n + 1, f)
    """`Σ p_j v_j + p_self v_self`."""
    width = reads.self_values.shape[-1]
    return torch.addcmul(mixed[..., :width], mixed[..., width, None], reads.self_values)

"""Which tokens of a prompt stay in the reduced run besides the query: a trained model needs a token as its attention sink."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from torch import Tensor

from ctxblocks import ArgumentError
from ctxblocks.numerics import norm
from ctxblocks_transformers.wiring.passes import full_pass
from ctxblocks_transformers.wiring.reads import BlockReads
from ctxblocks_transformers.wiring.sites import Site

Keep = Sequence[int] | Literal["auto"] | None
"""Positions that stay, `"auto"` for the first token where it is special or an outlier, or None or `()` for none."""
OUTLIER = 10.0
"""How many times the median norm of the other tokens' reads the first token's read has at least where it is an outlier."""
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id", "cls_token_id", "sep_token_id")
"""Attributes of configurations and tokenizers that hold special tokens."""


class Kept(NamedTuple):
    """The tokens that stay besides the query.

    Attributes:
        positions: their positions in the prompt, in order.
        reason: why they stay, in words; "" where none does.
    """

    positions: tuple[int, ...]
    reason: str

    def __str__(self) -> str:
        """One sentence part for the output of commands."""
        if not self.positions:
            return "no token kept"
        return (
            f"kept token{'s' if len(self.positions) > 1 else ''} {', '.join(map(str, self.positions))}: {self.reason}"
        )


def kept_tokens(
    model: Any,
    sites: Sequence[Site],
    input_ids: Tensor,  # (1, T)
    keep: Keep,
    *,
    query: int = -1,
    tokenizer: Any = None,
    reads: Sequence[BlockReads] | None = None,
) -> Kept:
    """The tokens that stay: those asked for, or for `"auto"` the first where it is special or its read is an outlier.

    The first token of a causal model sees only itself, so its read in the prompt is its read without context. Its norm is
    taken in the residual stream where the site has one, since normalised inputs hide it.

    Args:
        model, sites: the model and the sites of its blocks.
        input_ids: the prompt.
        keep: see `Keep`.
        query: the position of the query, which is never among the kept tokens.
        tokenizer: whose special tokens count besides those that the model's configuration names.
        reads: the blocks' reads of all tokens of the prompt, if a pass has recorded them already.

    Raises:
        ArgumentError: `keep` is neither a list of positions of the prompt, each once, nor `"auto"`.
    """
    length = input_ids.shape[1]
    if not isinstance(keep, str | Sequence | Tensor | None):
        raise ArgumentError(f"keep: got {keep!r}, needs 'auto', or positions of the prompt such as [0]")
    if keep is None or (not isinstance(keep, str) and not len(keep)):
        return Kept((), "")
    if isinstance(keep, str):
        if keep != "auto":
            raise ArgumentError(f"keep: got {keep!r}, needs 'auto', or positions of the prompt such as [0]")
        return _automatic(model, sites, input_ids, query % length, tokenizer, reads)
    asked = [_position(i, length) for i in keep]
    if len(set(asked)) < len(asked):
        raise ArgumentError(f"keep: got {list(keep)}, needs each position once")
    return Kept(tuple(sorted(i for i in asked if i != query % length)), "as asked")


def special_tokens(model: Any, tokenizer: Any = None) -> set[int]:
    """The special tokens that a tokenizer, if given, and the model's configurations name."""
    named: list[Any] = list(getattr(tokenizer, "all_special_ids", None) or ())
    for holder in (getattr(model, "config", None), getattr(model, "generation_config", None)):
        named += [getattr(holder, name, None) for name in SPECIAL]
    return {int(i) for each in named for i in (each if isinstance(each, Iterable) else [each]) if isinstance(i, int)}


def _automatic(
    model: Any,
    sites: Sequence[Site],
    input_ids: Tensor,
    query: int,
    tokenizer: Any,
    reads: Sequence[BlockReads] | None,
) -> Kept:
    if query == 0:
        return Kept((), "")
    if int(input_ids[0, 0]) in special_tokens(model, tokenizer):
        return Kept((0,), "the tokenizer calls it special")
    if reads is None:
        reads, _ = full_pass(model, sites, input_ids)
    ratios = [_ratio(each) for each in reads]
    largest = max(range(len(ratios)), key=ratios.__getitem__)
    if ratios[largest] < OUTLIER:
        return Kept((), "")
    return Kept((0,), f"its input is {ratios[largest]:.3g} times the median of the other tokens' in block {largest}")


def _ratio(reads: BlockReads) -> float:
    """The norm of the first token's read, relative to the median of the other tokens'."""
    streams = [each for each in (reads.entered, reads.bypass) if each is not None]
    streams = streams or [each for each in (reads.z,) if each is not None]
    return max((_first_to_median(norm(rows.detach())) for rows in streams if len(rows) > 1), default=0.0)


def _first_to_median(norms: Tensor) -> float:  # (T,)
    middle = float(norms[1:].median())
    return float(norms[0]) / middle if middle > 0 else 0.0


def _position(i: Any, length: int) -> int:
    if not hasattr(i, "__index__") or isinstance(i, bool) or not -length <= int(i) < length:
        raise ArgumentError(f"keep: got position {i!r}, needs positions of the prompt, from 0 to {length - 1}")
    return int(i) % length

"""A prompt as one row of tokens: from tensors, lists, arrays, or what a tokenizer returns."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ctxblocks import ArgumentError, DtypeError, ShapeError
from ctxblocks_transformers.wiring.calling import input_device
from ctxblocks_transformers.wiring.checks import check_loaded, check_room, embeddings_of

Prompt = Tensor | Sequence[int] | Sequence[Sequence[int]] | Mapping[str, Any]
"""One prompt in any of the forms that `tokens_of` reads."""
HARMLESS = ("attention_mask", "token_type_ids", "special_tokens_mask", "length")
"""What tokenizers return in addition to the tokens of a text, which says nothing more about one prompt without padding."""


def tokens_of(model: Any, prompt: Any) -> Tensor:  # (1, T)
    """The tokens of one prompt, on the device of the model's embeddings, checked.

    Args:
        model: the model.
        prompt: a tensor, a NumPy array, a list of tokens or a list of one such list, or the mapping that a tokenizer or
            `apply_chat_template` returns.

    Raises:
        ShapeError: it is a batch, has one token, or is longer than the model's range of positions.
        DtypeError: it does not hold integers.
        ArgumentError: it cannot be read as tokens, is padded, holds inputs other than tokens, or a token is not in the
            vocabulary; or the model has no weights.
    """
    check_loaded(model)
    tokens = _tensor(_entry(prompt) if isinstance(prompt, Mapping) else prompt)
    tokens = tokens.unsqueeze(0) if tokens.dim() == 1 else tokens
    if tokens.dim() != 2 or tokens.shape[0] != 1:
        raise ShapeError(
            f"input_ids: got shape {tuple(tokens.shape)}, needs (1, T), one prompt without padding; call once for each"
        )
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise DtypeError(f"input_ids: got {tokens.dtype}, needs int64, the indices of tokens")
    if tokens.shape[1] < 2:
        raise ShapeError(
            f"input_ids: got a prompt of {'one token' if tokens.shape[1] else 'no token'}, needs at least two: a context and "
            f"a query"
        )
    check_room(model, tokens.shape[1])
    weight = embeddings_of(model)
    least, most = int(tokens.min()), int(tokens.max())
    if least < 0 or most >= weight.shape[0]:
        raise ArgumentError(
            f"input_ids: got a token {least if least < 0 else most}, needs numbers from 0 to {weight.shape[0] - 1}, the "
            f"vocabulary's"
        )
    return tokens.to(input_device(model), torch.int64)


def _entry(prompt: Mapping[str, Any]) -> Any:
    """The tokens of a tokenizer's result, if nothing else in it matters."""
    if "input_ids" not in prompt:
        raise ArgumentError(
            f"input_ids: got a mapping of {', '.join(map(repr, prompt)) or 'nothing'}, needs 'input_ids' in it"
        )
    if others := sorted(set(prompt) - {"input_ids", *HARMLESS}):
        raise ArgumentError(
            f"input_ids: got a mapping that holds {', '.join(map(repr, others))} too, needs tokens alone, since an update "
            f"stands for tokens; pass inputs['input_ids'] if the model ignores the rest"
        )
    mask = prompt.get("attention_mask")
    if mask is not None and not bool((_tensor(mask) != 0).all()):
        raise ArgumentError(
            "attention_mask: got one that hides tokens, needs a prompt without padding; leave the padding out"
        )
    return prompt["input_ids"]


def _tensor(prompt: Any) -> Tensor:
    """Numbers in any form as a tensor."""
    if isinstance(prompt, Tensor):
        return prompt
    if isinstance(prompt, str):
        raise ArgumentError("input_ids: got a text, needs tokens; use prompt_tokens(model, tokenizer, text)")
    try:
        return torch.as_tensor(prompt)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        first = str(error).partition("\n")[0]
        raise ArgumentError(
            f"input_ids: got a {type(prompt).__name__} that cannot be read as int64 tokens ({first}), needs a tensor (1, T), "
            f"a list of tokens, or what a tokenizer returns for one text"
        ) from error

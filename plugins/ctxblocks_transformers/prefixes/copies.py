"""Every prefix of a prompt in one forward pass of two rows: the prompt, and as many copies of its last token.

In every attention layer, copy `i` at position `i` attends to the prompt's keys before that position and to its own key
[theory: Section 9]. The rest of the model runs unchanged.
"""

import contextlib
import contextvars
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from ctxblocks_attention import Reads, causal_with_self
from torch import Tensor, nn

NAME = "ctxblocks_copies"
SELF_SLOT, MASK = "self slot", "mask"


class NoCopiesError(Exception):
    """An attention layer of the model cannot compute copies; another route is needed."""


class CopiesRun:
    """One forward pass with copies: the model's own attention function, and how each attention layer computed its copies.

    Attributes:
        implementation: the name of the model's own attention function.
        attended: `"self slot"` or `"mask"`, by the `id` of the attention module.
    """

    def __init__(self, implementation: str) -> None:
        self.implementation = implementation
        self.attended: dict[int, str] = {}
        self._plain: dict[int, tuple[Tensor, bool]] = {}

    def plain(self, mask: Tensor | None) -> bool:
        """Whether a mask lets every token attend to exactly itself and the tokens before it."""
        if mask is None:
            return True
        if id(mask) not in self._plain:
            seen = _seen(mask)
            causal = torch.ones(seen.shape[-2:], dtype=torch.bool, device=seen.device).tril()
            self._plain[id(mask)] = (mask, bool((seen == causal).all()))
        return self._plain[id(mask)][1]


_RUN: contextvars.ContextVar[CopiesRun] = contextvars.ContextVar("ctxblocks_copies")


@contextlib.contextmanager
def copies(model: nn.Module) -> Iterator[CopiesRun]:
    """Exchange the attention function of a model for one that takes the second row as copies of the first row's last token.

    The public `model.set_attn_implementation` does not serve here. Some models (`granite_swa`, `granitemoe_swa`,
    `dots3_note_text`) give layers copies of the configuration, which it does not reach, so that these layers would keep
    their own function; in models without exchangeable attention it logs a warning instead of raising; and the values to
    restore afterwards, which may differ between sub-configurations, can be read only from the private attribute.

    Raises:
        NoCopiesError: the model has no exchangeable attention.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    configs = _configs(model)
    before = [config._attn_implementation_internal for config in configs]
    named = next((name for name in before if name), None)
    if named is None:
        raise NoCopiesError("the model names no attention function")
    run = CopiesRun(named if named in ("eager", "sdpa") else "sdpa")
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _mask)
    token = _RUN.set(run)
    try:
        for config in configs:
            config._attn_implementation_internal = NAME
        yield run
    finally:
        _RUN.reset(token)
        for config, value in zip(configs, before, strict=True):
            config._attn_implementation_internal = value


def _configs(model: nn.Module) -> list[Any]:
    """The configurations of the model's modules, each once."""
    configs = {}
    for module in model.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation_internal"):
            configs[id(config)] = config
    return list(configs.values())


def _mask(*args: Any, **kwargs: Any) -> Any:
    """The mask for the model's own attention function."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    return ALL_MASK_ATTENTION_FUNCTIONS[_RUN.get().implementation](*args, **kwargs)


def _attention(
    module: nn.Module,
    query: Tensor,  # (2, heads, n + 1, f)
    key: Tensor,  # (2, kv_heads, n + 1, f)
    value: Tensor,  # (2, kv_heads, n + 1, f')
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:  # (2, n + 1, heads, f')
    """Attention of the first row as in the model, and of the copies in the second row to the keys of the first."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    run = _RUN.get()
    eager = getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)
    if getattr(module, "is_causal", True) is False or options.get("is_causal") is False:
        raise NoCopiesError(f"{type(module).__name__} also attends to later tokens")
    if eager is None or len(query) != 2 or query.shape[-2] != key.shape[-2]:
        raise NoCopiesError(f"{type(module).__name__} is not attention between all tokens of two rows")
    function = ALL_ATTENTION_FUNCTIONS.get_interface(run.implementation, eager)
    mask = attention_mask if attention_mask is None else attention_mask[:1]
    first = function(module, query[:1], key[:1], value[:1], mask, **options)[0]
    special = any(options.get(name) is not None for name in ("softcap", "s_aux", "position_bias"))
    if run.plain(attention_mask) and not special and query.shape[-1] == value.shape[-1]:
        run.attended[id(module)] = SELF_SLOT
        second = _self_slot(query, key, value, options.get("scaling"))
    else:
        run.attended[id(module)] = MASK
        second = _masked(eager, module, query, key, value, attention_mask, options)
    return torch.cat((first, second.to(first.dtype))), None


def _self_slot(
    query: Tensor,  # (2, heads, n + 1, f)
    key: Tensor,  # (2, kv_heads, n + 1, f)
    value: Tensor,  # (2, kv_heads, n + 1, f)
    scale: float | None,
) -> Tensor:  # (1, n + 1, heads, f)
    """Attention of the copies as one causal pass with a self slot."""
    group = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(group, dim=1) for x in (key, value))
    wide = torch.promote_types(query.dtype, torch.float32)
    reads = Reads(
        queries=query[1:],
        keys=key[:1, :, :-1],
        values=value[:1, :, :-1],
        self_scores=(query[1:].to(wide) * key[1:].to(wide)).sum(-1),
        self_values=value[1:],
        scale=query.shape[-1] ** -0.5 if scale is None else float(scale),
    )
    return causal_with_self(reads).transpose(1, 2)


def _masked(
    eager: Callable[..., Any],
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,  # (1 or 2, 1, n + 1, n + 1)
    options: dict[str, Any],
) -> Tensor:  # (1, n + 1, heads, f')
    """Attention of the copies by the model's own function with a mask: serves for windows, soft caps and sinks as well."""
    length = query.shape[-2]
    own = torch.eye(length, dtype=torch.bool, device=query.device)
    seen = own.new_ones(length, length).tril() if mask is None else _seen(mask[:1, 0])[0]
    columns = torch.cat((seen & ~own, seen & own), dim=-1)  # (n + 1, 2 (n + 1))
    bias = torch.zeros(columns.shape, dtype=query.dtype, device=query.device)
    bias = bias.masked_fill(~columns, torch.finfo(query.dtype).min)
    keys, values = (torch.cat((x[:1], x[1:]), dim=-2) for x in (key, value))
    mixed: Tensor = eager(module, query[1:], keys, values, bias[None, None], **options)[0]
    return mixed


def _seen(mask: Tensor) -> Tensor:
    """The entries that a mask lets through: True, or 0 in a mask that is added to the scores.

    Raises:
        NoCopiesError: it adds other finite values, or differs between heads, so that it is more than a mask.
    """
    if mask.dtype == torch.bool:
        return mask
    seen = mask == 0
    if (mask.dim() == 4 and mask.shape[1] > 1) or bool((~seen & (mask > torch.finfo(mask.dtype).min / 2)).any()):
        raise NoCopiesError("the values added to the scores depend on more than positions")
    return seen

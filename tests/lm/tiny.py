"""Tiny random language models of any type that transformers builds from a configuration."""

import inspect
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig

SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "attention_hidden_size", "lru_width", "embedding_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "decoder_ffn_dim"), 48),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 64),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 24),
    **dict.fromkeys(
        ("state_size", "mamba_d_state", "ssm_state_size", "time_step_rank", "qk_rope_head_dim", "rotary_dim"), 4
    ),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "q_lora_rank"), 16),
    **dict.fromkeys(("n_groups", "n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(
        ("kv_lora_rank", "qk_nope_head_dim", "v_head_dim", "linear_key_head_dim", "linear_value_head_dim"), 8
    ),
    "word_embed_proj_dim": 32,
    "num_key_value_heads": 2,
    "linear_num_key_heads": 2,
    "num_experts_per_tok": 2,
    "expand": 2,
    "head_dim": 8,
    "vocab_size": 61,
    "sliding_window": 4,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "is_decoder": True,
    "use_cache": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

OWN: dict[str, dict[str, Any]] = {"mamba2": {"head_dim": 16}}
"""What single types need otherwise."""


def config_of(model_type: str, **options: Any) -> PreTrainedConfig:
    """A configuration with every size that it knows made small."""
    made = CONFIG_MAPPING[model_type]
    known = set(getattr(made, "attribute_map", {}))
    for base in made.__mro__:
        known |= set(getattr(base, "__annotations__", {}))
        known |= set(inspect.signature(base.__init__).parameters) if base is not object else set()
    sizes = {name: size for name, size in SIZES.items() if name in known}
    return made(**{**sizes, **OWN.get(model_type, {}), **options})


def tiny(model_type: str, dtype: torch.dtype = torch.float64, seed: int = 0, **options: Any) -> Any:
    """A random model; norms, biases and gains are drawn too, since errors hide behind ones and zeros."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config_of(model_type, **options), experts_implementation="eager")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.dim() < 2 else 0.1)
            parameter.add_(noise.to(parameter.dtype))
    return model.to(dtype).eval()


def prompt(length: int = 7, seed: int = 0) -> torch.Tensor:  # (1, length)
    """Tokens, none of them special."""
    return torch.randint(3, 61, (1, length), generator=torch.Generator().manual_seed(seed))

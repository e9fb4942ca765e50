"""Tiny random language models of any type that transformers builds from a configuration."""

import hashlib
import inspect
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig

SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "attention_hidden_size", "lru_width", "embedding_size"), 32),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads"), 4),
    **dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim", "decoder_ffn_dim"), 48),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len"), 64),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"), 24),
    **dict.fromkeys(
        ("state_size", "mamba_d_state", "ssm_state_size", "time_step_rank", "qk_rope_head_dim", "rotary_dim"), 4
    ),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "q_lora_rank"), 16),
    **dict.fromkeys(("n_groups", "n_group", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(
        ("kv_lora_rank", "qk_nope_head_dim", "v_head_dim", "linear_key_head_dim", "linear_value_head_dim"), 8
    ),
    **dict.fromkeys(("residual_multiplier", "embedding_multiplier", "logits_scaling"), 0.7),
    **dict.fromkeys(("hidden_size_per_layer_input", "laurel_rank"), 8),
    "vocab_size_per_layer_input": 61,
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

_LOCAL = {"layer_types": ["sliding_attention", "full_attention"]}
_LINEAR = {"layer_types": ["linear_attention", "full_attention"]}
_SHARED = {"num_hidden_layers": 4, "layers_block_type": ["linear_attention", "hybrid"] * 2}
_DENSE_FIRST = {"mlp_only_layers": [0]}
OWN: dict[str, dict[str, Any]] = {
    "big_bird": {"attention_type": "original_full"},  # as it would choose itself for so few tokens, changing itself
    "cohere2": _LOCAL,
    "exaone4": _LOCAL,
    "gemma3_text": _LOCAL,
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 48, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {**_LOCAL, "num_kv_shared_layers": 0, "activation_sparsity_pattern": [0.0, 0.0]},
    "git": {
        "vision_config": {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": 4},
    "jamba": {"num_hidden_layers": 5, "attn_layer_period": 3, "attn_layer_offset": 1},
    "lfm2": {"full_attn_idxs": [1]},
    "lfm2_moe": {
        "num_hidden_layers": 4,
        "layer_types": ["conv", "full_attention"] * 2,
        "num_dense_layers": 2,
    },
    "bamba": {"attn_layer_indices": [1]},
    "granitemoehybrid": _LINEAR,
    "minimax": _LINEAR,
    "kimi_linear": _LINEAR,
    "bailing_hybrid": _LINEAR,
    "nemotron_h": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "full_attention", "mlp", "moe"],
    },
    "llama4_text": {"moe_layers": [1], "intermediate_size_mlp": 48},
    "mamba2": {"head_dim": 16},
    "olmo3": _LOCAL,
    "qwen2_moe": _DENSE_FIRST,
    "qwen3_moe": _DENSE_FIRST,
    "qwen3_next": {"num_hidden_layers": 4, "full_attention_interval": 2, "mlp_only_layers": [0, 1]},
    "qwen3_5_text": {"full_attention_interval": 2},
    "qwen3_5_moe_text": {"full_attention_interval": 2},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "xmod": {"default_language": "en_XX"},
    "zamba": {**_SHARED, "attention_hidden_size": 64},
    "zamba2": _SHARED,
    "zaya": {"num_experts_per_tok": 1},
}
"""Options of single types with which all their kinds of layers occur."""


def config_of(model_type: str, **options: Any) -> PreTrainedConfig:
    """A configuration with every size that it knows made small."""
    made = CONFIG_MAPPING[model_type]
    known = set(getattr(made, "attribute_map", {}))
    for base in made.__mro__:
        known |= set(getattr(base, "__annotations__", {}))
        known |= set(inspect.signature(base.__init__).parameters) if base is not object else set()
    sizes = {name: size for name, size in SIZES.items() if name in known}
    if "kv_lora_rank" in known:  # latent attention: a key for every head, of two parts
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]
        sizes.pop("head_dim", None)
    return made(**{**sizes, **OWN.get(model_type, {}), **options})


def tiny(model_type: str, dtype: torch.dtype = torch.float64, seed: int = 0, **options: Any) -> Any:
    """A random model; norms, biases and gains are random too, since ones and zeros would hide errors."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config_of(model_type, **options), experts_implementation="eager")
    return randomise(model, seed).to(dtype).eval()


def randomise(model: Any, seed: int) -> Any:
    """Noise on every parameter, and on the buffers that scale or shift."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.dim() < 2 else 0.1)
            parameter.add_(noise.to(parameter.dtype))
        for name, buffer in model.named_buffers():
            if name.endswith(("_scalar", "_bias")):
                buffer.add_(torch.randn(buffer.shape, generator=generator).to(buffer.dtype) * 0.3)
    return model


def prompt(length: int = 7, seed: int = 0) -> torch.Tensor:  # (1, length)
    """Tokens, none of them special."""
    return torch.randint(3, 61, (1, length), generator=torch.Generator().manual_seed(seed))


def state(model: nn.Module) -> str:
    """Everything that must not change: weights, modes, gradient flags, hooks and configuration."""
    digest = hashlib.sha256(str(model.config).encode())
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        digest.update(f"{name}{tensor.requires_grad}".encode() + tensor.detach().double().numpy().tobytes())
    for name, module in model.named_modules():
        digest.update(f"{name}{module.training}{len(module._forward_hooks)}{len(module._forward_pre_hooks)}".encode())
    return digest.hexdigest()

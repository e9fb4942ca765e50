"""The families of `transformers`, as data.

Model types whose wiring depends on a switch of their configuration (`bloom`, `gpt_neox`, `falcon`, `opt`, `stablelm`) are not
listed: the wiring of a model that is not listed is guessed from the model itself, and proven on it.
"""

import attrs

from ctxblocks import BlockSpec, FamilySpec
from ctxblocks_transformers.wiring.block_specs import (
    ATTENTION,
    BRANCH_NORM,
    FALCON_H1,
    FUSED,
    GPT2,
    GPTJ,
    GRANITE_DENSE,
    GRANITE_MIXTURE,
    GRANITE_SHARED,
    GRIFFIN,
    GRIFFIN_ATTENTION,
    JAMBA,
    JAMBA_MIXTURE,
    JETMOE,
    LFM2,
    LFM2_ATTENTION,
    LFM2_MIXTURE,
    LINEAR,
    LLAMA4,
    LLAMA4_MIXTURE,
    MAMBA,
    MINIMAX,
    MIXTURE,
    MPT,
    NEMOTRON_H,
    PRE_NORM,
    SANDWICH,
    SHARED_EXPERT,
    SHARED_EXPERTS,
    UNGATED,
    XLSTM,
    ZAMBA,
)


def _family(name: str, models: str, layers: str, *blocks: BlockSpec) -> FamilySpec:
    return FamilySpec(name=name, models=tuple(models.split()), layers=layers, blocks=blocks)


_MODEL = "model.layers"
FAMILIES: tuple[FamilySpec, ...] = (
    _family(
        "llama",
        "llama mistral ministral ministral3 qwen2 qwen3 gemma olmo helium smollm3 ernie4_5 seed_oss hunyuan_v1_dense "
        "diffllama cwm internlm3 youtu bitnet",
        _MODEL,
        PRE_NORM,
    ),
    _family("vaultgemma", "vaultgemma", _MODEL, attrs.evolve(PRE_NORM, bypass="pre_feedforward_layernorm")),
    _family("minicpm", "minicpm3", _MODEL, attrs.evolve(PRE_NORM, scale="residual_scale")),
    _family("doge", "doge", _MODEL, attrs.evolve(PRE_NORM, gain="post_attention_residual")),
    _family("fused", "phi3 glm", _MODEL, FUSED),
    _family("ungated", "nemotron arcee jais2", _MODEL, UNGATED),
    _family("apertus", "apertus", _MODEL, attrs.evolve(UNGATED, bypass="feedforward_layernorm")),
    _family("starcoder2", "starcoder2", _MODEL, attrs.evolve(PRE_NORM, readers="mlp.c_fc", last="mlp.c_proj")),
    _family("nanochat", "nanochat", _MODEL, attrs.evolve(PRE_NORM, readers="mlp.fc1", last="mlp.fc2")),
    _family(
        "persimmon",
        "persimmon",
        _MODEL,
        attrs.evolve(PRE_NORM, projection="self_attn.dense", readers="mlp.dense_h_to_4h", last="mlp.dense_4h_to_h"),
    ),
    _family("gemma", "gemma2 gemma3_text", _MODEL, SANDWICH),
    _family("gemma4", "gemma4_unified_text", _MODEL, attrs.evolve(SANDWICH, gain="layer_scalar", scale="layer_scalar")),
    _family(
        "glm4",
        "glm4",
        _MODEL,
        attrs.evolve(FUSED, wiring="sandwich", branch="post_mlp_layernorm"),
    ),
    _family("olmo2", "olmo2 olmo3 exaone4", _MODEL, BRANCH_NORM),
    _family("granite", "granite", _MODEL, attrs.evolve(PRE_NORM, scale="residual_multiplier")),
    _family("llama4", "llama4_text", _MODEL, LLAMA4_MIXTURE, LLAMA4),
    _family("granite-mixture", "granitemoe", _MODEL, GRANITE_MIXTURE),
    _family("granite-shared", "granitemoeshared", _MODEL, GRANITE_SHARED, GRANITE_MIXTURE),
    _family("mixture", "mixtral qwen3_moe olmoe minimax_m2 mimo_v2_flash", _MODEL, MIXTURE, PRE_NORM),
    _family(
        "deepseek",
        "deepseek_v2 deepseek_v3 deepseek_v32 glm4_moe glm4_moe_lite glm_moe_dsa dots1 exaone_moe solar_open axk1 "
        "kimi_linear bailing_hybrid laguna",
        _MODEL,
        SHARED_EXPERTS,
        PRE_NORM,
    ),
    _family("minimax", "minimax", _MODEL, MINIMAX, attrs.evolve(MINIMAX, projection="self_attn.out_proj")),
    _family(
        "flex-olmo",
        "flex_olmo",
        _MODEL,
        attrs.evolve(MIXTURE, wiring="branch-norm", bypass="", branch=BRANCH_NORM.branch),
    ),
    _family(
        "olmo-hybrid",
        "olmo_hybrid",
        _MODEL,
        attrs.evolve(PRE_NORM, mixer="linear_attn", projection="linear_attn.o_proj"),
        BRANCH_NORM,
    ),
    _family(
        "gpt-oss", "gpt_oss phimoe", _MODEL, attrs.evolve(MIXTURE, readers=("mlp.router", "mlp.experts.gate_up_proj"))
    ),
    _family("qwen2-mixture", "qwen2_moe", _MODEL, SHARED_EXPERT, PRE_NORM),
    _family(
        "qwen3-next",
        "qwen3_next qwen3_5_text qwen3_5_moe_text",
        _MODEL,
        attrs.evolve(SHARED_EXPERT, **LINEAR),
        SHARED_EXPERT,
        attrs.evolve(PRE_NORM, **LINEAR),
        PRE_NORM,
    ),
    _family("cohere", "cohere cohere2", _MODEL, attrs.evolve(PRE_NORM, wiring="parallel", bypass="")),
    _family(
        "phi",
        "phi",
        _MODEL,
        attrs.evolve(
            PRE_NORM, wiring="parallel", projection="self_attn.dense", readers="mlp.fc1", last="mlp.fc2", bypass=""
        ),
    ),
    _family("gpt2", "gpt2 gpt_bigcode", "transformer.h", GPT2),
    _family("gptj", "gptj codegen", "transformer.h", GPTJ),
    _family("mpt", "mpt", "transformer.blocks", MPT),
    _family("griffin", "recurrent_gemma", _MODEL, GRIFFIN, GRIFFIN_ATTENTION),
    _family("mamba", "mamba mamba2 falcon_mamba", "backbone.layers", MAMBA),
    _family("xlstm", "xlstm", "backbone.blocks", XLSTM),
    _family("nemotron-h", "nemotron_h", _MODEL, *NEMOTRON_H),
    _family("zamba", "zamba zamba2", _MODEL, *ZAMBA),
    _family("bamba", "bamba", _MODEL, JAMBA, attrs.evolve(JAMBA, **ATTENTION)),
    _family("jetmoe", "jetmoe", _MODEL, JETMOE),
    _family("falcon-h1", "falcon_h1", _MODEL, FALCON_H1),
    _family(
        "granite-hybrid",
        "granitemoehybrid",
        _MODEL,
        attrs.evolve(GRANITE_SHARED, mixer="mamba", projection="mamba.out_proj"),
        GRANITE_SHARED,
        attrs.evolve(GRANITE_DENSE, mixer="mamba", projection="mamba.out_proj"),
        GRANITE_DENSE,
    ),
    _family(
        "jamba",
        "jamba",
        _MODEL,
        JAMBA_MIXTURE,
        JAMBA,
        attrs.evolve(JAMBA_MIXTURE, **ATTENTION),
        attrs.evolve(JAMBA, **ATTENTION),
    ),
    _family(
        "lfm2",
        "lfm2 lfm2_moe",
        _MODEL,
        LFM2_MIXTURE,
        LFM2,
        attrs.evolve(LFM2_MIXTURE, **LFM2_ATTENTION),
        attrs.evolve(LFM2, **LFM2_ATTENTION),
    ),
)

"""The families of `transformers`, as data.

Model types whose wiring hangs on a switch of their configuration (`gpt_neox`, `falcon`, `opt`, `stablelm`) are left out:
what is not here is guessed from the model at hand and proven on it.
"""

import attrs

from ctxblocks import BlockSpec, FamilySpec

PRE_NORM = BlockSpec(
    wiring="pre-norm",
    mixer="self_attn",
    projection="self_attn.o_proj",
    network="mlp",
    readers=("mlp.gate_proj", "mlp.up_proj"),
    last="mlp.down_proj",
    bypass="post_attention_layernorm",
)
FUSED = attrs.evolve(PRE_NORM, readers="mlp.gate_up_proj")
UNGATED = attrs.evolve(PRE_NORM, readers="mlp.up_proj")
SANDWICH = attrs.evolve(
    PRE_NORM, wiring="sandwich", bypass="pre_feedforward_layernorm", branch="post_feedforward_layernorm"
)
BRANCH_NORM = attrs.evolve(PRE_NORM, wiring="branch-norm", bypass="", branch="post_feedforward_layernorm")
MIXTURE = attrs.evolve(PRE_NORM, readers=("mlp.gate", "mlp.experts.gate_up_proj"), last="mlp.experts.down_proj")
SHARED_EXPERT = attrs.evolve(
    MIXTURE,
    readers=(
        "mlp.gate",
        "mlp.experts.gate_up_proj",
        "mlp.shared_expert.gate_proj",
        "mlp.shared_expert.up_proj",
        "mlp.shared_expert_gate",
    ),
    last=("mlp.experts.down_proj", "mlp.shared_expert.down_proj"),
)
LINEAR = {"mixer": "linear_attn", "projection": "linear_attn.out_proj"}
GRANITE_MIXTURE = attrs.evolve(
    PRE_NORM,
    network="block_sparse_moe",
    readers=("block_sparse_moe.router", "block_sparse_moe.experts.gate_up_proj"),
    last="block_sparse_moe.experts.down_proj",
    scale="residual_multiplier",
)
GPT2 = BlockSpec(
    wiring="pre-norm",
    mixer="attn",
    projection="attn.c_proj",
    network="mlp",
    readers="mlp.c_fc",
    last="mlp.c_proj",
    bypass="ln_2",
)
GPTJ = BlockSpec(
    wiring="parallel", mixer="attn", projection="attn.out_proj", network="mlp", readers="mlp.fc_in", last="mlp.fc_out"
)
BLOOM = BlockSpec(
    wiring="pre-norm",
    mixer="self_attention",
    projection="self_attention.dense",
    network="mlp",
    readers="mlp.dense_h_to_4h",
    last="mlp.dense_4h_to_h",
    bypass="post_attention_layernorm",
)
MPT = BlockSpec(
    wiring="pre-norm",
    mixer="attn",
    projection="attn.out_proj",
    network="ffn",
    readers="ffn.up_proj",
    last="ffn.down_proj",
    bypass="norm_2",
)
GRIFFIN = BlockSpec(
    wiring="pre-norm",
    mixer="temporal_block",
    projection="temporal_block.linear_out",
    network="mlp_block",
    readers=("mlp_block.gate_proj", "mlp_block.up_proj"),
    last="mlp_block.down_proj",
    bypass="channel_pre_norm",
)
GRIFFIN_ATTENTION = attrs.evolve(GRIFFIN, projection="temporal_block.o_proj")
MAMBA = BlockSpec(wiring="mixer-only", mixer="mixer", projection="mixer.out_proj")
BERT = BlockSpec(
    wiring="post-norm",
    mixer="attention",
    projection="attention.output.dense",
    network="intermediate",
    readers="intermediate.dense",
    last="output.dense",
    inner="output.dense",
)
JAMBA = BlockSpec(
    wiring="pre-norm",
    mixer="mamba",
    projection="mamba.out_proj",
    network="feed_forward",
    readers=("feed_forward.gate_proj", "feed_forward.up_proj"),
    last="feed_forward.down_proj",
    bypass="pre_ff_layernorm",
)
JAMBA_MIXTURE = attrs.evolve(
    JAMBA,
    readers=("feed_forward.router", "feed_forward.experts.gate_up_proj"),
    last="feed_forward.experts.down_proj",
)
ATTENTION = {"mixer": "self_attn", "projection": "self_attn.o_proj"}
LFM2 = attrs.evolve(
    JAMBA,
    mixer="conv",
    projection="conv.out_proj",
    readers=("feed_forward.w1", "feed_forward.w3"),
    last="feed_forward.w2",
    bypass="ffn_norm",
)


def _family(name: str, models: str, layers: str, *blocks: BlockSpec) -> FamilySpec:
    return FamilySpec(name=name, models=tuple(models.split()), layers=layers, blocks=blocks)


_MODEL = "model.layers"
FAMILIES: tuple[FamilySpec, ...] = (
    _family("llama", "llama mistral qwen2 qwen3 gemma olmo helium smollm3", _MODEL, PRE_NORM),
    _family("fused", "phi3 glm", _MODEL, FUSED),
    _family("ungated", "nemotron arcee", _MODEL, UNGATED),
    _family("apertus", "apertus", _MODEL, attrs.evolve(UNGATED, bypass="feedforward_layernorm")),
    _family("starcoder2", "starcoder2", _MODEL, attrs.evolve(PRE_NORM, readers="mlp.c_fc", last="mlp.c_proj")),
    _family("gemma", "gemma2 gemma3_text", _MODEL, SANDWICH),
    _family(
        "glm4",
        "glm4",
        _MODEL,
        attrs.evolve(FUSED, wiring="sandwich", branch="post_mlp_layernorm"),
    ),
    _family("olmo2", "olmo2 olmo3 exaone4", _MODEL, BRANCH_NORM),
    _family("granite", "granite", _MODEL, attrs.evolve(PRE_NORM, scale="residual_multiplier")),
    _family("granite-mixture", "granitemoe", _MODEL, GRANITE_MIXTURE),
    _family("mixture", "mixtral qwen3_moe olmoe", _MODEL, MIXTURE, PRE_NORM),
    _family("gpt-oss", "gpt_oss", _MODEL, attrs.evolve(MIXTURE, readers=("mlp.router", "mlp.experts.gate_up_proj"))),
    _family("qwen2-mixture", "qwen2_moe", _MODEL, SHARED_EXPERT, PRE_NORM),
    _family(
        "qwen3-next",
        "qwen3_next",
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
    _family("bloom", "bloom", "transformer.h", BLOOM),
    _family("mpt", "mpt", "transformer.blocks", MPT),
    _family("griffin", "recurrent_gemma", _MODEL, GRIFFIN, GRIFFIN_ATTENTION),
    _family("mamba", "mamba mamba2 falcon_mamba", "backbone.layers", MAMBA),
    _family(
        "jamba",
        "jamba",
        _MODEL,
        JAMBA_MIXTURE,
        JAMBA,
        attrs.evolve(JAMBA_MIXTURE, **ATTENTION),
        attrs.evolve(JAMBA, **ATTENTION),
    ),
    _family("lfm2", "lfm2", _MODEL, LFM2, attrs.evolve(LFM2, mixer="self_attn", projection="self_attn.out_proj")),
)

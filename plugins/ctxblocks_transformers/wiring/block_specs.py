"""The wirings of the layers of `transformers`, as data: each kind once."""

import attrs

from ctxblocks import BlockSpec

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
SHARED_EXPERTS = attrs.evolve(
    MIXTURE,
    readers=(
        "mlp.gate",
        "mlp.experts.gate_up_proj",
        "mlp.shared_experts.gate_proj",
        "mlp.shared_experts.up_proj",
    ),
    last=("mlp.experts.down_proj", "mlp.shared_experts.down_proj"),
)
LINEAR = {"mixer": "linear_attn", "projection": "linear_attn.out_proj"}
LLAMA4 = attrs.evolve(
    PRE_NORM,
    network="feed_forward",
    readers=("feed_forward.gate_proj", "feed_forward.up_proj"),
    last="feed_forward.down_proj",
)
LLAMA4_MIXTURE = attrs.evolve(
    LLAMA4,
    readers=(
        "feed_forward.router",
        "feed_forward.experts.gate_up_proj",  # reads z times its gate
        "feed_forward.shared_expert.gate_proj",
        "feed_forward.shared_expert.up_proj",
    ),
    last=("feed_forward.experts.down_proj", "feed_forward.shared_expert.down_proj"),
)
GRANITE_MIXTURE = attrs.evolve(
    PRE_NORM,
    network="block_sparse_moe",
    readers=("block_sparse_moe.router", "block_sparse_moe.experts.gate_up_proj"),
    last="block_sparse_moe.experts.down_proj",
    scale="residual_multiplier",
)
GRANITE_SHARED = attrs.evolve(
    GRANITE_MIXTURE,
    readers=(*GRANITE_MIXTURE.readers, "shared_mlp.input_linear"),
    last=(*GRANITE_MIXTURE.last, "shared_mlp.output_linear"),
    source="post_attention_layernorm",
)
GRANITE_DENSE = attrs.evolve(
    GRANITE_MIXTURE, network="shared_mlp", readers="shared_mlp.input_linear", last="shared_mlp.output_linear"
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
XLSTM = BlockSpec(
    wiring="pre-norm",
    mixer="mlstm_layer",
    projection="mlstm_layer.out_proj",
    network="ffn",
    readers=("ffn.proj_up_gate", "ffn.proj_up"),
    last="ffn.proj_down",
    bypass="norm_ffn",
)
JETMOE = BlockSpec(  # its attention's output projections are experts, several to a token
    wiring="pre-norm",
    mixer="self_attention",
    network="mlp",
    readers=("mlp.router.layer", "mlp.input_linear"),
    last="mlp.output_linear",
    bypass="post_attention_layernorm",
)
MAMBA = BlockSpec(wiring="mixer-only", mixer="mixer", projection="mixer.out_proj")
NEMOTRON_H = (
    BlockSpec(
        wiring="network-only",
        network="mixer",
        readers=("mixer.gate", "mixer.experts.up_proj", "mixer.shared_experts.up_proj"),
        last=("mixer.experts.down_proj", "mixer.shared_experts.down_proj"),
    ),
    BlockSpec(wiring="network-only", network="mixer", readers="mixer.up_proj", last="mixer.down_proj"),
    MAMBA,
    attrs.evolve(MAMBA, projection="mixer.o_proj"),
)
ZAMBA = (  # in hybrid layers a block shared between layers feeds the mixer alone, which thus carries all of the context
    BlockSpec(wiring="mixer-only", mixer="mamba", projection="mamba.out_proj"),
    BlockSpec(wiring="mixer-only", mixer="mamba_decoder", projection="mamba_decoder.mamba.out_proj"),
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
FALCON_H1 = attrs.evolve(JAMBA, projection="")  # two mixers side by side
LFM2 = attrs.evolve(
    JAMBA,
    mixer="conv",
    projection="conv.out_proj",
    readers=("feed_forward.w1", "feed_forward.w3"),
    last="feed_forward.w2",
    bypass="ffn_norm",
)
LFM2_MIXTURE = attrs.evolve(
    LFM2,
    readers=("feed_forward.gate", "feed_forward.experts.gate_up_proj"),
    last="feed_forward.experts.down_proj",
)
LFM2_ATTENTION = {"mixer": "self_attn", "projection": "self_attn.out_proj"}
MINIMAX = attrs.evolve(
    MIXTURE, wiring="branch-norm", bypass="", gain="mlp_alpha_factor", scale="mlp_beta_factor"
)  # its linear attention names its output projection otherwise

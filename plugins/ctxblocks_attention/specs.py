"""The registered layers: their names, example configurations and traits."""

from ctxblocks import LayerSpec, Traits
from ctxblocks_attention.attention import SelfAttention
from ctxblocks_attention.config import LocalAttentionConfig, SelfAttentionConfig
from ctxblocks_attention.local import LocalAttention
from ctxblocks_attention.reference import reference


def _self_traits(config: SelfAttentionConfig) -> Traits:
    rotary = config.positions == "rotary"
    return Traits(permutation_invariant=not rotary, positional=rotary)


def _local_traits(config: LocalAttentionConfig) -> Traits:
    return Traits(windowed=config.window, positional=True)


def self_attention() -> LayerSpec:
    """The layer `self-attention`."""
    return LayerSpec(
        name="self-attention",
        summary="multi-head softmax attention to the context and the query itself",
        build=SelfAttention,
        config=SelfAttentionConfig,
        examples=(
            SelfAttentionConfig(width=4),
            SelfAttentionConfig(width=3, heads=8, head_width=32),
            SelfAttentionConfig(width=8, kv_heads=2, bias=True),
            SelfAttentionConfig(width=6, heads=4, head_width=4, kv_heads=2, positions="rotary"),
            SelfAttentionConfig(width=4, heads=2, positions="rotary", bias=True),
        ),
        traits=_self_traits,
        reference=reference,
        benchmarks=({}, {"positions": "rotary"}),
    )


def local_attention() -> LayerSpec:
    """The layer `local-attention`."""
    return LayerSpec(
        name="local-attention",
        summary="softmax attention to the query itself and a sliding window of the last tokens",
        build=LocalAttention,
        config=LocalAttentionConfig,
        examples=(
            LocalAttentionConfig(width=4),
            LocalAttentionConfig(width=3, window=1),
            LocalAttentionConfig(width=8, heads=4, kv_heads=2, window=3, positions="rotary", bias=True),
            LocalAttentionConfig(width=6, heads=2, head_width=4, window=2, positions="rotary"),
        ),
        traits=_local_traits,
        reference=reference,
        benchmarks=({"window": 128}, {"window": 128, "positions": "rotary"}),
    )

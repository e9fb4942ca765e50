"""What the plugin announces: names, example configurations and claims."""

from ctxblocks import LayerSpec, Traits
from ctxblocks_linear_attention.config import DeltaRuleConfig, LinearAttentionConfig
from ctxblocks_linear_attention.delta import DeltaRule
from ctxblocks_linear_attention.linear import LinearAttention
from ctxblocks_linear_attention.reference import gated_delta_rule, lightning_attention


def _linear_traits(config: LinearAttentionConfig) -> Traits:
    """Without decay a context is a set; without normaliser as well, a sum. Decay weighs by position and breaks both."""
    plain = config.decay is None
    return Traits(permutation_invariant=plain, additive=plain and not config.normalize, positional=not plain)


def _delta_traits(config: DeltaRuleConfig) -> Traits:
    """Each token overwrites what those before it wrote, so their order counts."""
    return Traits(positional=True)


LINEAR_ATTENTION = LayerSpec(
    name="linear-attention",
    summary="Attention whose weights are products of features, with or without normaliser and decay",
    build=LinearAttention,
    config=LinearAttentionConfig,
    examples=(
        LinearAttentionConfig(width=4),
        LinearAttentionConfig(width=3, features="softplus", bias=True),
        LinearAttentionConfig(width=5, heads=2, head_width=3, features="identity", normalize=False),
        LinearAttentionConfig(width=6, heads=2, features="relu", normalize=False, bias=True),
        LinearAttentionConfig(width=8, heads=2, decay=(0.9, 0.5)),
        LinearAttentionConfig(width=4, features="identity", normalize=False, decay=0.75),
    ),
    traits=_linear_traits,
    reference=lightning_attention,
)

DELTA_RULE = LayerSpec(
    name="delta-rule",
    summary="Linear attention that corrects what its state already holds for a key, with or without gate",
    build=DeltaRule,
    config=DeltaRuleConfig,
    examples=(
        DeltaRuleConfig(width=4),
        DeltaRuleConfig(width=5, bias=True),
        DeltaRuleConfig(width=3, heads=2, head_width=4, gated=True),
        DeltaRuleConfig(width=8, heads=2, gated=True, bias=True),
    ),
    traits=_delta_traits,
    reference=gated_delta_rule,
    benchmarks=({}, {"gated": True}),
)

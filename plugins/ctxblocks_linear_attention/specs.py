"""The registered layers: their names, example configurations and traits."""

from ctxblocks import LayerSpec, Traits
from ctxblocks_linear_attention.config import DeltaRuleConfig, LinearAttentionConfig
from ctxblocks_linear_attention.delta import DeltaRule
from ctxblocks_linear_attention.linear import LinearAttention
from ctxblocks_linear_attention.reference import gated_delta_rule, lightning_attention


def _linear_traits(config: LinearAttentionConfig) -> Traits:
    """Without decay the order of tokens does not matter; without normalisation either, contexts are additive."""
    plain = config.decay is None
    return Traits(permutation_invariant=plain, additive=plain and not config.normalize, positional=not plain)


def _delta_traits(config: DeltaRuleConfig) -> Traits:
    """Each token changes what earlier tokens wrote, so the output depends on their order."""
    return Traits(positional=True)


LINEAR_ATTENTION = LayerSpec(
    name="linear-attention",
    summary="linear attention: weights are products of features, optionally normalised or decaying",
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
    summary="linear attention whose state is corrected at each key (DeltaNet), optionally gated",
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

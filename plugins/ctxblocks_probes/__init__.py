"""Probes: named measurements of updates, such as those of a prompt's dynamics or of a generation.

Measurements of `n + 1` updates have `n + 1` entries; those of the step from one update to the next have `n`.
"""

from ctxblocks import Probe, hookimpl
from ctxblocks.comparison import Decay, decay_exponent
from ctxblocks_probes import descent, trials, updates

__all__ = ["Decay", "ctxblocks_probes", "decay_exponent"]

PROBES = (
    Probe(name="alignment", summary="cosine of ΔW_i and ΔW_{i−1}, i = 1 … n", measure=updates.alignment, first=1),
    Probe(
        name="commutator",
        summary="‖P_i P_{i−1} − P_{i−1} P_i‖, Frobenius, i = 1 … n",
        measure=updates.commutator,
        first=1,
    ),
    Probe(
        name="determinant",
        summary="det P_i of the operator that multiplies the input projections",
        measure=updates.determinant,
    ),
    Probe(name="distance-to-full", summary="‖ΔW_n − ΔW_i‖, Frobenius", measure=updates.distance_to_full),
    Probe(
        name="marginal-change",
        summary="‖ΔW_i − ΔW_{i−1}‖, Frobenius, i = 1 … n",
        measure=updates.marginal_change,
        first=1,
        scale="log-log",
        exponent="decay-exponent",
    ),
    Probe(name="norm", summary="‖ΔW_i‖, Frobenius and spectral", measure=updates.norm),
    Probe(name="shift-norm", summary="‖Δb'_i‖ of the bias shift", measure=updates.shift_norm),
    Probe(
        name="in-context-error",
        summary="squared error of the prediction after i tokens",
        measure=trials.in_context_error,
        needs="trial",
    ),
    Probe(
        name="gradient-alignment",
        summary="cosine of ΔW_i and the change of the same weights by i steps of SGD on the same examples",
        measure=trials.gradient_alignment,
        needs="trial",
        stack=descent.gradient_alignment,
    ),
    Probe(
        name="effective-rank",
        summary="effective rank of the factorised product, exp of the entropy of its spectrum",
        measure=trials.effective_rank,
        needs="trial",
    ),
    Probe(
        name="leading-share",
        summary="largest squared singular value of the factorised product, as a share of their sum",
        measure=trials.leading_share,
        needs="trial",
    ),
    Probe(
        name="spectrum",
        summary="squared singular values of the factorised product, as shares of their sum, the largest first",
        measure=trials.spectrum,
        needs="trial",
        places="singular value, the largest first",
    ),
    Probe(
        name="state-size",
        summary="number of entries of the layer's state after i tokens",
        measure=trials.state_size,
        needs="trial",
        summed=True,
    ),
)


@hookimpl
def ctxblocks_probes() -> list[Probe]:
    """The probes of this plugin."""
    return list(PROBES)

"""Probes: named measurements of updates, of the dynamics of prompts, and of generations."""

from ctxblocks import Probe, hookimpl
from ctxblocks.comparison import Decay, decay_exponent
from ctxblocks_probes import descent, trials, updates

__all__ = ["Decay", "ctxblocks_probes", "decay_exponent"]

PROBES = (
    Probe(name="alignment", summary="cosine of an update and the one before", measure=updates.alignment, first=1),
    Probe(name="commutator", summary="‖P_i P_{i−1} − P_{i−1} P_i‖, Frobenius", measure=updates.commutator, first=1),
    Probe(name="determinant", summary="det P of the operator on the readers", measure=updates.determinant),
    Probe(name="distance-to-full", summary="‖ΔW_n − ΔW_i‖, Frobenius", measure=updates.distance_to_full),
    Probe(
        name="marginal-change",
        summary="‖ΔW_i − ΔW_{i−1}‖, Frobenius",
        measure=updates.marginal_change,
        first=1,
        scale="log-log",
        exponent="decay-exponent",
    ),
    Probe(name="norm", summary="‖ΔW_i‖, Frobenius and spectral", measure=updates.norm),
    Probe(name="shift-norm", summary="‖Δb'_i‖ of the bypass shift", measure=updates.shift_norm),
    Probe(
        name="in-context-error",
        summary="squared error of the prediction behind i tokens",
        measure=trials.in_context_error,
        needs="trial",
    ),
    Probe(
        name="gradient-alignment",
        summary="cosine of an update and SGD on the same examples",
        measure=trials.gradient_alignment,
        needs="trial",
        stack=descent.gradient_alignment,
    ),
    Probe(
        name="effective-rank",
        summary="directions that count in the factorised product",
        measure=trials.effective_rank,
        needs="trial",
    ),
    Probe(
        name="leading-share",
        summary="share of the factorised product's largest singular value",
        measure=trials.leading_share,
        needs="trial",
    ),
    Probe(
        name="spectrum",
        summary="shares of the factorised product's squared singular values, the largest first",
        measure=trials.spectrum,
        needs="trial",
        places="singular value, the largest first",
    ),
    Probe(
        name="state-size",
        summary="numbers that the layer keeps of i tokens to answer any later query",
        measure=trials.state_size,
        needs="trial",
        summed=True,
    ),
)


@hookimpl
def ctxblocks_probes() -> list[Probe]:
    """The probes of this plugin."""
    return list(PROBES)

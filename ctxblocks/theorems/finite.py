"""Checks that reads and the factors of an update are finite; the errors say which block and read, and where to look."""

from torch import Tensor, nn

from ctxblocks.base.checks import all_finite
from ctxblocks.base.errors import NonFiniteError
from ctxblocks.blocks.read import Read


def check_reads(base: Read, full: Read, name: str, rows: str, module: nn.Module | None) -> None:
    """Raise unless both reads are finite.

    Args:
        base: the read without `Y`.
        full: the read with `Y`.
        name: of the block, in the message.
        rows: what the last batch axis of the reads counts, such as `"prefix"`.
        module: the block, whose parameters the message is about; None if it is not known.

    Raises:
        NonFiniteError: a read holds NaN or infinity.
    """
    for read, which in ((base, "without"), (full, "with")):
        for part, tensor in (("network's input z", read.z), ("residual stream r", read.bypass)):
            if tensor is not None and not all_finite(tensor):
                raise NonFiniteError(
                    f"{name}: the {part} {which} the context is NaN or infinite in {_extent(tensor, rows)}, needs finite "
                    f"values; {_suspect(tensor, module)}"
                )


def check_differences(direction: Tensor, shift: Tensor | None, name: str) -> None:
    """Raise unless `δ` and `Δb'`, the differences of two finite reads, are finite.

    Raises:
        NonFiniteError: one of them overflows.
    """
    for part, tensor in (("δ", direction), ("Δb'", shift)):
        if tensor is not None and not all_finite(tensor):
            raise NonFiniteError(
                f"{name}: the difference {part} of the reads with and without the context overflows {_dtype(tensor)}, needs "
                f"finite values; use a wider dtype or smaller inputs"
            )


def _extent(tensor: Tensor, rows: str) -> str:
    """How many entries are not finite, and the first row that holds one."""
    bad = ~tensor.isfinite()
    told = f"{int(bad.sum())} of {bad.numel()} entries"
    if bad.dim() < 2 or bad.shape[-2] == 1:
        return told
    first = int(bad.any(-1).reshape(-1, bad.shape[-2]).any(0).int().argmax())
    return f"{told}, first at {rows} {first}"


def _suspect(tensor: Tensor, module: nn.Module | None) -> str:
    """What to look at: a parameter that is not finite, or else what enters the block, and the dtype."""
    if module is None:
        return f"look for NaN in the weights, or for an overflow of {_dtype(tensor)}"
    parameters = [(name, each) for name, each in module.named_parameters() if not each.is_meta]
    bad = [name for name, each in parameters if each.is_floating_point() and not all_finite(each)]
    if bad:
        return f"repair the weights of its parameter {bad[0]!r}"
    dtype = _dtype(parameters[0][1] if parameters else tensor)
    return f"its own weights are finite: look at the weights of what comes before it, or for an overflow of {dtype}"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")

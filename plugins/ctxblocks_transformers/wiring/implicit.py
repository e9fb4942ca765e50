import dataclasses

from torch import Tensor

from ctxblocks import ContextOperator, Solver


@dataclasses.dataclass(frozen=True)
class Read:
    z: Tensor
    bypass: Tensor | None = None
    depends: bool = True


def implicit_update(base: Read, full: Read, solver: Solver, *, check: bool = True) -> tuple[ContextOperator, Tensor | None]:
    shift = None if full.bypass is None or base.bypass is None else full.bypass - base.bypass
    if not full.depends:
        return ContextOperator.identity(full.z), shift
    return solver.solve(base.z, full.z, check), shift

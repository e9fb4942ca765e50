"""How much memory is free, and errors in place of a process that is killed.

Linux grants more memory than there is, so a tensor that does not fit is allocated without complaint and the process
ends when it is written. What is needed is therefore compared with what is free beforehand (`check_room`), the address
space is bounded by it (`bounded_memory`), and an allocation that fails all the same is told as this package's error
(`memory_errors`).
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import torch

from ctxblocks.base.errors import OutOfMemoryError
from ctxblocks.base.messages import in_units

GROUPS = Path("/sys/fs/cgroup")
GROUP_OF_SELF = Path("/proc/self/cgroup")
CPU_REFUSAL = re.compile(r"can't allocate memory: you tried to allocate (\d+) bytes")
CUDA_REFUSAL = re.compile(r"Tried to allocate ([\d.]+) (bytes|[KMGTP]iB)")


def available_memory(device: torch.device | str) -> int:
    """Bytes that can still be allocated on the device without pushing anything out.

    On a CPU the least of what the machine has, what this process's control group (version 2) and its parents leave, and
    what a limit on its address space leaves.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    bounds = [int(psutil.virtual_memory().available), _group_room(), _address_room()]
    return max(0, min(bound for bound in bounds if bound is not None))


def check_room(needed: int, device: torch.device | str, what: str, way_out: str) -> None:
    """Raise unless so many bytes are free.

    Args:
        needed: bytes, a lower bound.
        device: where.
        what: that needs them, in words that end before "need", such as "context: got 8 tokens of width 4, whose prefixes".
        way_out: what to do instead, such as "pass a smaller chunk=…".

    Raises:
        OutOfMemoryError: fewer are.
    """
    free = available_memory(device)
    if needed > free:
        raise OutOfMemoryError(f"{what} need at least {in_units(needed)}, {_where(free, device)}; {way_out}")


@contextmanager
def memory_errors(device: torch.device | str, what: str, way_out: str) -> Iterator[None]:
    """Within it, a refused allocation of torch or Python is an `OutOfMemoryError` that names the size.

    Args:
        device: where.
        what: that is being computed, in words that end before "need", as for `check_room`.
        way_out: what to do instead.

    Raises:
        OutOfMemoryError: an allocation was refused, with torch's error as the cause.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        size = _refused(error)
        if size is None:
            raise
        raise OutOfMemoryError(f"{what} need {size}, {_where(available_memory(device), device)}; {way_out}") from error


@contextmanager
def bounded_memory(device: torch.device | str) -> Iterator[None]:
    """Within it, an allocation on the CPU beyond what is free now fails as an exception, where the platform can do so.

    It lowers the soft limit of the process's address space (`RLIMIT_AS`) to its present size plus the free memory. On
    another device than the CPU, and where there is no such limit (Windows, macOS), nothing is bounded.
    """
    if torch.device(device).type != "cpu" or sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = _address_space() + available_memory(device)
    known = [limit for limit in (bound, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(known), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _where(free: int, device: torch.device | str) -> str:
    return f"where {in_units(free)} are free on {torch.device(device)}"


def _refused(error: Exception) -> str | None:
    """How much was asked for when memory was refused, in words; None where the error is about something else."""
    if found := CPU_REFUSAL.search(str(error)):
        return f"{in_units(int(found[1]))} at once"
    if found := CUDA_REFUSAL.search(str(error)):
        return f"{found[1]} {found[2]} at once"
    return "more memory" if isinstance(error, MemoryError | torch.OutOfMemoryError) else None


def _address_space() -> int:
    """Bytes of address space that this process has mapped."""
    return int(psutil.Process().memory_info().vms)


def _address_room() -> int | None:
    """What a limit on this process's address space leaves; None where there is none."""
    if sys.platform == "win32":
        return None
    import resource

    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if soft == resource.RLIM_INFINITY else soft - _address_space()


def _group_room() -> int | None:
    """What the control groups (version 2) that hold this process leave; None where no limit is set."""
    if not GROUP_OF_SELF.exists():
        return None
    mine = [line.removeprefix("0::/") for line in GROUP_OF_SELF.read_text().splitlines() if line.startswith("0::/")]
    rooms = []
    for name in mine:
        folder = GROUPS / name
        for group in (folder, *folder.parents):
            limit = group / "memory.max"
            if limit.exists() and (most := limit.read_text().strip()) != "max":
                rooms.append(int(most) - _group_use(group))
    return min(rooms, default=None)


def _group_use(group: Path) -> int:
    """Bytes that a control group holds, without the pages of files that it would give back."""
    cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
    return int((group / "memory.current").read_text()) - (int(cached[1]) if cached else 0)

"""Free memory, and exceptions for a lack of memory.

Linux grants more memory than it has: a tensor that does not fit is allocated without an error, and the process is killed when
the tensor is written. Therefore `check_room` compares the memory needed with the free memory beforehand, `bounded_memory`
limits the address space to the free memory, and `memory_errors` converts failed allocations to an `OutOfMemoryError`.
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
    """The bytes that can be allocated on the device without swapping.

    On a CPU this is the minimum of the machine's available memory, the memory left by the limits of this process's control
    group (version 2) and its parents, and the memory left by the limit of the process's address space.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    bounds = [int(psutil.virtual_memory().available), _group_room(), _address_room()]
    return max(0, min(bound for bound in bounds if bound is not None))


def check_room(needed: int, device: torch.device | str, what: str, way_out: str) -> None:
    """Raise unless so many bytes are free.

    Args:
        needed: a lower bound of the bytes needed.
        device: the device.
        what: subject of the message, which continues with "need", such as "context: got 8 tokens of width 4, whose prefixes".
        way_out: remedy for the message, such as "pass a smaller chunk=…".

    Raises:
        OutOfMemoryError: fewer bytes are free.
    """
    free = available_memory(device)
    if needed > free:
        raise OutOfMemoryError(f"{what} need at least {in_units(needed)}, {_where(free, device)}; {way_out}")


@contextmanager
def memory_errors(device: torch.device | str, what: str, way_out: str) -> Iterator[None]:
    """A context in which a failed allocation of torch or Python raises an `OutOfMemoryError` that names the size.

    Args:
        device: the device.
        what: subject of the message, as for `check_room`.
        way_out: remedy for the message.

    Raises:
        OutOfMemoryError: an allocation failed; the original exception is the cause.
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
    """A context in which a CPU allocation larger than the free memory raises an exception, if the platform supports it.

    The soft limit of the process's address space (`RLIMIT_AS`) is lowered to its present size plus the free memory. On
    other devices than the CPU, and on Windows and macOS, which have no such limit, nothing is changed.
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
    """The size of the failed allocation, as text; None if the error is about something else."""
    if match := CPU_REFUSAL.search(str(error)):
        return f"{in_units(int(match[1]))} at once"
    if match := CUDA_REFUSAL.search(str(error)):
        return f"{match[1]} {match[2]} at once"
    return "more memory" if isinstance(error, MemoryError | torch.OutOfMemoryError) else None


def _address_space() -> int:
    """The bytes of address space that this process has mapped."""
    return int(psutil.Process().memory_info().vms)


def _address_room() -> int | None:
    """The bytes left by the limit of this process's address space; None if there is no limit."""
    if sys.platform == "win32":
        return None
    import resource

    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if soft == resource.RLIM_INFINITY else soft - _address_space()


def _group_room() -> int | None:
    """The bytes left by the limits of this process's control groups (version 2); None if there is no limit."""
    if not GROUP_OF_SELF.exists():
        return None
    names = [line.removeprefix("0::/") for line in GROUP_OF_SELF.read_text().splitlines() if line.startswith("0::/")]
    rooms = []
    for name in names:
        folder = GROUPS / name
        for group in (folder, *folder.parents):
            limit = group / "memory.max"
            if limit.exists() and (most := limit.read_text().strip()) != "max":
                rooms.append(int(most) - _group_use(group))
    return min(rooms, default=None)


def _group_use(group: Path) -> int:
    """The bytes that a control group uses, without cached file pages that can be reclaimed."""
    cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
    return int((group / "memory.current").read_text()) - (int(cached[1]) if cached else 0)

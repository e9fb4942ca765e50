"""The peak rates of the machine, measured by a matrix product and a copy."""

import functools
import platform
import re
from pathlib import Path

import psutil
import torch

from ctxblocks.base.memory import available_memory
from ctxblocks.base.messages import in_units
from ctxblocks.bench.records import Ceilings, Machine
from ctxblocks.bench.timing import Call, Clock

SIZES = (512, 1024, 2048)
"""Sizes of the square matrices on a CPU."""
CUDA_SIZES = (2048, 4096, 8192)
"""Sizes of the square matrices on a GPU."""
COPIED = 2**30
"""Bytes to copy: many more than fit into a cache."""
SLOW = 1.0
"""Seconds of a product above which no larger one is measured."""
ATTEMPTS = 3


def ceilings(clock: Clock, dtype: torch.dtype, device: torch.device) -> Ceilings:
    """Operations and bytes per second, each from the fastest of a few attempts."""
    rates: dict[int, float] = {}
    for size in CUDA_SIZES if device.type == "cuda" else SIZES:
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        seconds = _fastest(clock, functools.partial(torch.matmul, left, right))
        rates[size] = 2 * size**3 / seconds
        if seconds > SLOW:
            break
    best = max(rates, key=lambda size: rates[size])
    copied = min(COPIED, available_memory(device) // 8)
    source = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    seconds = _fastest(clock, lambda: target.copy_(source))
    return Ceilings(
        flops=rates[best],
        flops_by=f"fastest of {ATTEMPTS} products of two {best} × {best} matrices in {str(dtype).removeprefix('torch.')}",
        bandwidth=2 * copied / seconds,
        bandwidth_by=f"fastest of {ATTEMPTS} copies of {in_units(copied)}, read and written",
    )


def machine(device: torch.device) -> Machine:
    """The device and the versions of the software."""
    return Machine(
        device=device.type,
        name=torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        processors=psutil.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory=available_memory(device),
        torch=torch.__version__,
        python=platform.python_version(),
    )


def _fastest(clock: Clock, call: Call) -> float:
    call()
    return min(clock(call) for _ in range(ATTEMPTS))


def _processor() -> str:
    """The name of the processor, from the operating system."""
    listing = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", listing.read_text(), re.MULTILINE) if listing.exists() else None
    return named[1] if named else platform.processor() or platform.machine()

"""Free memory, and exceptions that name the size instead of a killed process."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from ctxblocks import OutOfMemoryError
from ctxblocks.base import memory as _memory
from ctxblocks.base.memory import available_memory, bounded_memory, check_room, memory_errors
from ctxblocks.base.messages import in_units

GIB = 2**30


def group(folder: Path, limit: str, used: int, cached: int = 0) -> None:
    """The files of a control group."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\n")


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups of version 2, this process in `/a/b`."""
    (tmp_path / "self").write_text("1:memory:/old\n0::/a/b\n")
    monkeypatch.setattr(_memory, "GROUP_OF_SELF", tmp_path / "self")
    monkeypatch.setattr(_memory, "GROUPS", tmp_path / "groups")
    return tmp_path / "groups"


def test_the_machine_limits_the_free_memory() -> None:
    """It is positive and at most the total memory of the system."""
    assert 0 < available_memory("cpu") <= psutil.virtual_memory().total


@pytest.mark.parametrize("owner", ["a/b", "a"])
def test_a_control_group_limits_the_free_memory(groups: Path, owner: str) -> None:
    """The group of this process or a parent of it limits it; reclaimable file pages count as free."""
    group(groups / "a" / "b", "max", 0)
    group(groups / owner, "1000", 400, 50)
    assert available_memory("cpu") == 650


def test_a_group_may_have_no_limit(groups: Path) -> None:
    """The limit is `max`, or the files do not exist."""
    before = available_memory("cpu")
    group(groups / "a" / "b", "max", 10**15)
    assert before > GIB // 4
    assert available_memory("cpu") > GIB // 4


def test_a_full_group_leaves_nothing(groups: Path) -> None:
    """The free memory is 0, not negative."""
    group(groups / "a" / "b", "1000", 4000)
    assert available_memory("cpu") == 0


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1.5 * GIB, "1.5 GiB"),
        (381.4 * GIB, "381 GiB"),
        (2**60, "1024 PiB"),
    ],
)
def test_sizes_have_units(size: float, words: str) -> None:
    """They have three digits and the largest unit that fits."""
    assert in_units(size) == words


def test_free_memory_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte too many is an error that names the tensors, the sizes, the device and a remedy."""
    monkeypatch.setattr(_memory, "available_memory", lambda device: 3 * GIB)
    check_room(3 * GIB, "cpu", "context: got 8 tokens of width 4, whose prefixes", "pass a smaller chunk=…")
    with pytest.raises(OutOfMemoryError) as caught:
        check_room(3 * GIB + 1, "cpu", "context: got 8 tokens of width 4, whose prefixes", "pass a smaller chunk=…")
    assert str(caught.value) == (
        "context: got 8 tokens of width 4, whose prefixes need at least 3 GiB, where 3 GiB are free on cpu; "
        "pass a smaller chunk=…"
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1048576 bytes."),
            "1 MiB at once",
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has"), "2.50 GiB at once"),
        (torch.OutOfMemoryError("CUDA out of memory"), "more memory"),
        (MemoryError(), "more memory"),
    ],
)
def test_failed_allocations_are_converted(error: Exception, words: str) -> None:
    """Errors of torch on both devices and of Python are converted, with the original exception as the cause."""
    message = rf"^the reads need {words}, where .* are free on cpu; wait$"
    with pytest.raises(OutOfMemoryError, match=message) as caught, memory_errors("cpu", "the reads", "wait"):
        raise error
    assert caught.value.__cause__ is error


def test_other_errors_pass() -> None:
    """They are unchanged."""
    with pytest.raises(RuntimeError, match=r"^shapes$"), memory_errors("cpu", "the reads", "wait"):
        raise RuntimeError("shapes")


def run(script: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


LIMITED = """
import resource
import torch
from ctxblocks import OutOfMemoryError
from ctxblocks.base import memory as _memory
before = resource.getrlimit(resource.RLIMIT_AS)
room = 2**28
_memory.psutil.virtual_memory = lambda: type("memory", (), {"available": room})
with _memory.bounded_memory("cpu"):
    torch.ones(2**20)
    try:
        with _memory.memory_errors("cpu", "the tensor", "wait"):
            torch.ones(2**28)
    except OutOfMemoryError as error:
        print(error)
print(resource.getrlimit(resource.RLIMIT_AS) == before)
torch.ones(2**28)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_an_allocation_beyond_the_bound_is_an_exception() -> None:
    """Inside the context it raises; afterwards the limit is as before."""
    result = run(LIMITED)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("the tensor need 1 GiB at once, where ")
    assert result.stdout.endswith("; wait\nTrue\n")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such limit")
def test_a_limit_of_the_process_limits_the_free_memory() -> None:
    """The limit is that of `ulimit -v`."""
    script = """
import resource
from ctxblocks.base.memory import _address_space, available_memory
resource.setrlimit(resource.RLIMIT_AS, (_address_space() + 10**8, -1))
print(available_memory("cpu"))
"""
    assert 0 < int(run(script).stdout) <= 10**8


def test_a_gpu_reports_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no limit is set for it."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7, 9))
    assert available_memory("cuda") == 7
    with bounded_memory("cuda"):
        pass

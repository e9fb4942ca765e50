"""`ctxblocks bench`: output, files and errors."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import pytest
import torch
from bench_fakes import registered

from ctxblocks import ArgumentError, DeviceError, OutOfMemoryError
from ctxblocks.bench import BenchConfig, bench, plan_bench, steps_of
from ctxblocks.bench.run import COMPARISONS
from ctxblocks.cli import main


@pytest.fixture(autouse=True)
def _small_ceilings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peak rates are measured with small products and a small copy."""
    monkeypatch.setattr("ctxblocks.bench.ceilings.SIZES", (8, 16))
    monkeypatch.setattr("ctxblocks.bench.ceilings.COPIED", 2**12)


def arguments(name: str, folder: Path, *more: str) -> list[str]:
    return ["bench", name, "--width", "8", "--lengths", "16", "8", "--repeats", "1", "--out", str(folder), *more]


def test_the_command_prints_tables_and_writes_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table has one line for each length in increasing order; there is no progress bar in a pipe."""
    with registered() as spec:
        assert main(arguments(spec.name, tmp_path / "bench")) == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert [line[:2] for line in lines[1:3]] == [["fault", "8"], ["16", lines[2][1]]]
    assert out.splitlines()[-1] == f"wrote {tmp_path / 'bench'}: bench.json, bench.csv, bench.png, bench.svg"
    assert err == ""
    assert len(list((tmp_path / "bench").iterdir())) == 4


def test_the_command_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The document on stdout equals the one in the folder, and names the folder."""
    with registered() as spec:
        assert main(arguments(spec.name, tmp_path, "--json", "--seed", "5", "--threads", "2", "--device", "cpu")) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("out") == str(tmp_path)
    assert printed == json.loads((tmp_path / "bench.json").read_text())
    assert printed["config"] == {
        "layers": ["fault"],
        "width": 8,
        "lengths": [8, 16],
        "dtype": "float32",
        "repeats": 1,
        "threads": 2,
        "chunk": None,
        "seed": 5,
        "device": "cpu",
    }
    assert printed["comparisons"] == []
    assert printed["ceilings"]["flops"] > 0
    assert "products of two" in printed["ceilings"]["flops_by"]
    assert printed["machine"]["threads"] == 2
    assert torch.get_num_threads() == 1  # as before


def test_a_repeated_option_is_a_list(tmp_path: Path) -> None:
    """`--lengths 8 --lengths 4` is `--lengths 8 4`."""
    with registered() as spec:
        command = ["bench", spec.name, "--width", "8", "--repeats", "1", "--out", str(tmp_path)]
        assert main([*command, "--lengths", "8", "--lengths", "4"]) == 0
    assert json.loads((tmp_path / "bench.json").read_text())["config"]["lengths"] == [4, 8]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_the_default_folder_is_named_after_the_settings(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is in `runs`."""
    monkeypatch.chdir(tmp_path)
    with registered() as spec:
        command = ["bench", spec.name, "--width", "8", "--lengths", "8", "--repeats", "1", "--device", "cpu"]
        assert main([*command, "--dtype", dtype]) == 0
    assert (tmp_path / "runs" / f"bench-cpu-{dtype}-width-8" / "bench.json").exists()


def test_a_terminal_gets_a_progress_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bar is on stderr and names the step."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with registered() as spec:
        assert main(arguments(spec.name, tmp_path)) == 0
    assert "fault, n = 16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("nobody", "layer: got 'nobody', needs one of "),
        ("rnn --lengths 0", "lengths: got 0, needs an integer ≥ 1"),
        ("rnn --lengths 8 -3", "lengths: got -3, needs an integer ≥ 1"),
        ("rnn --width 0", "width: got 0, needs an integer ≥ 1"),
        ("rnn --repeats 0", "repeats: got 0, needs an integer ≥ 1"),
        ("rnn --threads 0", "threads: got 0, needs an integer ≥ 1"),
        ("rnn --chunk 0", "chunk: got 0, needs an integer ≥ 1"),
        ("rnn --dtype int8", 'Invalid value "int8" for --dtype.'),
        ("rnn --lengths x", 'Invalid value for --lengths: unable to convert "x" into int.'),
    ],
)
def test_bad_input_is_2(command: str, message: str, refused: Callable[[Sequence[str]], str]) -> None:
    """The error is one line on stderr."""
    assert refused(["bench", *command.split()]).startswith(f"error: {message}")


def test_cuda_without_a_gpu_is_2(monkeypatch: pytest.MonkeyPatch, refused: Callable[[Sequence[str]], str]) -> None:
    """`--device cuda` needs a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refused(["bench", "rnn", "--device", "cuda"]).startswith("error: device: got 'cuda', needs a GPU")


def test_a_folder_that_cannot_be_written_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error is raised before anything is measured."""
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("ctxblocks.bench.bench", lambda *_, **__: pytest.fail("measured first"))
    with registered() as spec:
        assert main(arguments(spec.name, tmp_path / "file" / "bench")) == 2
    assert "out: got" in capsys.readouterr().err


def shell(*command: str, before: str = "") -> "subprocess.CompletedProcess[str]":
    """Run the command in a new process, after some Python code."""
    script = f"import sys\nfrom ctxblocks.cli import main\n{before}\nsys.exit(main({list(command)}))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)


def test_an_absurd_length_is_refused(tmp_path: Path) -> None:
    """The error is raised before anything is allocated, and names size and options."""
    result = shell("bench", "rnn", "--lengths", "2000000000", "--out", str(tmp_path))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(
        "error: context: got 2000000000 tokens of width 256, whose prefixes need at least 7.45 TiB, where "
    )
    assert result.stderr.endswith("are free on cpu; give a smaller --chunk or shorter --lengths\n")
    assert result.stderr.count("\n") == 1


LIMIT = """
import resource, psutil, ctxblocks.bench.run, ctxblocks.runs.drawing
size = psutil.Process().memory_info().vms + 400 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (size, size))
"""
LITTLE = """
import ctxblocks.base.memory as memory
memory.psutil.virtual_memory = lambda: type("memory", (), {"available": 400 * 2**20})
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no limit of the address space")
@pytest.mark.parametrize("before", [LIMIT, LITTLE], ids=["limited process", "little memory"])
def test_a_context_beyond_the_limit_is_refused(before: str, tmp_path: Path) -> None:
    """Inputs and outputs fit into memory and the hidden layer does not: an error, not a killed process."""
    result = shell(
        *("bench", "linear-attention", "--width", "64", "--lengths", "300000", "--repeats", "1", "--threads", "1"),
        *("--out", str(tmp_path)),
        before=before,
    )
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith("error: context: got 300000 tokens of width 64, whose ")
    assert "are free on cpu; give a smaller --chunk or shorter --lengths" in result.stderr
    assert result.stderr.count("\n") == 1


def test_without_layers_everything_is_compared() -> None:
    """Without layers, all layers and the comparisons are measured; with layers, only these."""
    every = plan_bench(BenchConfig(lengths=(8,)))
    assert every.compared
    assert {"gru", "self-attention"} <= {variant.spec.name for variant in every.variants}
    assert steps_of(every) == 1 + len(every.variants) + len(COMPARISONS)
    assert not plan_bench(BenchConfig(layers=("gru",))).compared


def test_comparisons_are_part_of_a_full_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report has one for each, and every step is reported to `progress`."""
    steps: list[str] = []
    monkeypatch.setattr("ctxblocks.bench.run.COMPARISONS", {"one": lambda bench, config: "first"})
    plan = plan_bench(BenchConfig(layers=("gru",), width=8, lengths=(8,), repeats=1))
    report = bench(attrs.evolve(plan, compared=True), progress=steps.append)
    assert report.comparisons == ("first",)
    assert steps == ["ceilings", "gru, n = 8", "one"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"dtype": "int8"}, ArgumentError, "dtype: got 'int8', needs one of float64"),
        ({"lengths": ()}, ArgumentError, "lengths: got none, needs at least one"),
        ({"device": "tpu"}, DeviceError, "device: got 'tpu'"),
        ({"lengths": (10**12,)}, OutOfMemoryError, "context: got 1000000000000 tokens"),
    ],
)
def test_refusals_of_the_function(changes: dict[str, object], error: type[Exception], message: str) -> None:
    """They are the same as those of the command."""
    with pytest.raises(error, match=message):
        bench(BenchConfig(**{"layers": ("gru",), **changes}))  # type: ignore[arg-type]


def test_a_layer_without_variants_is_refused() -> None:
    """If no other layer is requested."""
    with registered(benchmarks=()) as spec, pytest.raises(ArgumentError, match="layers: got fault, needs one with"):
        plan_bench(BenchConfig(layers=(spec.name,)))

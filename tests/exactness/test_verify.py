"""`verify` and `ctxblocks verify`: rows, errors and failures."""

import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import attrs
import pytest
import torch
from testing import faulty_layers as layers
from torch import Tensor

from ctxblocks import ArgumentError, DeviceError, DtypeError, LayerSpec, PluginError, UnknownLayerError, registry
from ctxblocks.cli import main, verify as command
from ctxblocks.exactness.kinds import KINDS
from ctxblocks.exactness.verify import VerifyRow, plan_verify, verify

FIELDS = ["layer", "block", "dtype", "device", "examples", "left_out", "error", "bound", "relative", "ok"]


class Random(layers.Honest):
    """Every call gives another output."""

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        return super().forward(query, context) + torch.randn_like(query)


class Centred(layers.Honest):
    """The output is zero without context, so every query is degenerate."""

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        return super().forward(query, context) - super().forward(query, context[..., :0, :])


class NoHalf(layers.Honest):
    """An operation is missing in float16."""

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        if query.dtype == torch.float16:
            raise RuntimeError("\"scan_cpu\" not implemented for 'Half'")
        return super().forward(query, context)


class Infinite(layers.Honest):
    """The output is not finite if there is context."""

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        return super().forward(query, context) / (1 - min(context.shape[-2], 1))


def registered(layer: type[layers.Honest] = layers.Honest) -> AbstractContextManager[LayerSpec]:
    """The registry contains this layer within the context."""
    return layers.registered(layers.spec(layer))


def by_dtype(rows: list[VerifyRow]) -> dict[str, list[VerifyRow]]:
    return {dtype: [row for row in rows if row.dtype == dtype] for dtype in dict.fromkeys(row.dtype for row in rows)}


def test_one_row_for_each_block_and_dtype() -> None:
    """There are 18 blocks in four dtypes on a CPU, each with error, bound and relative error."""
    with registered() as spec:
        rows = verify([spec.name], device="cpu", examples=4)
    assert [(row.block, row.dtype) for row in rows] == [
        (kind, dtype) for dtype in ("float64", "float32", "bfloat16", "float16") for kind in KINDS
    ]
    assert [field.name for field in attrs.fields(VerifyRow)] == FIELDS
    for row in rows:
        assert (row.layer, row.device, row.ok) == (spec.name, "cpu", True)
        assert row.examples + row.left_out == 8
        assert 0 <= row.error < row.bound
    assert max(row.relative for row in by_dtype(rows)["float64"]) <= 1e-12


def test_rows_depend_on_the_seed_alone() -> None:
    """The same seed gives the same rows and another seed other rows; dtypes may be torch dtypes."""
    with registered() as spec:
        one, two, other = (
            verify([spec.name, spec.name], dtypes=[torch.float32], examples=2, seed=s) for s in (0, 0, 1)
        )
    assert one == two != other
    assert len(one) == len(KINDS)


def test_a_layer_that_is_no_function_fails() -> None:
    """Its errors are far beyond their bounds."""
    with registered(Random) as spec:
        rows = verify([spec.name], dtypes=["float64", "float32"], examples=4)
    assert not any(row.ok for row in rows)
    assert min(row.ratio for row in rows) > 100


def test_an_error_that_is_no_number_fails() -> None:
    """A layer with infinite outputs fails, unless `transfer` refuses it."""
    with registered(Infinite) as spec:
        rows = verify([spec.name], dtypes=["float32"], examples=2)
    assert not any(row.ok for row in rows if row.block.startswith(("plain", "skip")))
    assert {row.ratio for row in rows if row.block.startswith(("plain", "skip"))} == {float("inf")}


def test_relative_errors_decide_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row within its bound fails if its relative error exceeds the limit, in float64 only."""
    monkeypatch.setattr("ctxblocks.exactness.verify.RELATIVE", 1e-30)
    with registered() as spec:
        rows = by_dtype(verify([spec.name], dtypes=["float64", "float32"], examples=4))
    assert not all(row.ok for row in rows["float64"])
    assert all(row.ok for row in rows["float32"])


def test_degenerate_queries_use_augmented() -> None:
    """A layer that is zero without context has the same rows as others."""
    with registered(Centred) as spec:
        rows = verify([spec.name], dtypes=["float64"], examples=3)
    assert len(rows) == len(KINDS)
    assert all(row.ok for row in rows)


def test_a_cross_attention_has_the_blocks_that_accept_it() -> None:
    """Blocks with one norm for query and tokens do not accept tokens of another width."""
    with registered(layers.Cross) as spec:
        rows = verify([spec.name], dtypes=["float32"], examples=2)
    assert {row.block.split("/")[0] for row in rows} == {"plain", "skip", "post-norm"}
    assert all(row.ok for row in rows)


def test_a_missing_operation_is_reported() -> None:
    """By default float16 is left out with a warning; requesting it is an error; nothing else is left out."""
    with registered(NoHalf) as spec:
        with pytest.warns(UserWarning, match=f"layer '{spec.name}': float16 is left out on cpu: \"scan_cpu\" not"):
            rows = verify([spec.name], device="cpu", examples=1)
        with pytest.raises(DtypeError, match=r"got float16, which layer .* cannot run on cpu: .*; leave it out"):
            verify([spec.name], device="cpu", dtypes=["float16"])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            verify([spec.name], device="cpu", dtypes=["float32"], examples=1)
    assert list(by_dtype(rows)) == ["float64", "float32", "bfloat16"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layers": ["nobody"]}, UnknownLayerError, "layer: got 'nobody'"),
        ({"layers": ["rnn"], "dtypes": ["int8"]}, DtypeError, "dtypes: got 'int8', needs some of float64, float32"),
        ({"layers": ["rnn"], "device": "tpu"}, DeviceError, "device: got 'tpu'"),
        ({"layers": ["rnn"], "examples": 0}, ArgumentError, "examples: got 0"),
    ],
)
def test_refusals(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    """The error names the wrong argument."""
    with pytest.raises(error, match=message):
        verify(**arguments)  # type: ignore[arg-type]


def test_a_failed_plugin_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """If all layers are requested, the error of `verify` names the plugin that failed."""
    monkeypatch.setitem(registry()._failures, "mine:flash", ImportError("no kernel"))
    with pytest.raises(PluginError, match="plugin 'mine:flash' failed with ImportError: no kernel"):
        verify()


def test_the_command_prints_one_line_for_each_dtype(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe it prints a header, a line for each layer and dtype, and a summary; no progress bar, exit code 0."""
    with registered() as spec:
        assert main(["verify", "--dtype", "float64", "--dtype", "float32", "--examples", "2", spec.name]) == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert err == ""
    assert lines[0][:3] == ["layer", "dtype", "device"]
    assert [line[:4] for line in lines[1:3]] == [[spec.name, d, "cpu", "72"] for d in ("float64", "float32")]
    assert [line[-1] for line in lines[1:3]] == ["yes", "yes"]
    assert " ".join(lines[3]) == "36 of 36 combinations of layer, block and dtype hold"


def test_the_command_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints a list with every row, and nothing else."""
    with registered() as spec:
        assert main(["verify", spec.name, "--json", "--dtype", "float32", "--examples", "1", "--seed", "3"]) == 0
        rows = verify([spec.name], dtypes=["float32"], examples=1, seed=3)
    assert json.loads(capsys.readouterr().out) == [attrs.asdict(row) for row in rows]


def test_the_command_fails_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    """If an error exceeds its bound; the failed rows are listed."""
    with registered(Random) as spec:
        assert main(["verify", spec.name, "--dtype", "float32", "--examples", "1"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[1].split()[-1] == "NO"
    assert len([line for line in out if line.startswith(f"failed: {spec.name} ")]) == len(KINDS)
    assert out[-1] == f"0 of {len(KINDS)} combinations of layer, block and dtype hold"


def test_numbers_that_are_not_finite_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON has no NaN and no infinity."""
    with registered(Infinite) as spec:
        assert main(["verify", spec.name, "--dtype", "float32", "--examples", "1", "--json"]) == 1
    out = capsys.readouterr().out
    assert json.loads(out, parse_constant=pytest.fail)[0]["error"] is None


def test_the_command_notes_a_missing_operation(capsys: pytest.CaptureFixture[str]) -> None:
    """The note is a line below the table."""
    with registered(NoHalf) as spec:
        assert main(["verify", spec.name, "--examples", "1", "--device", "cpu"]) == 0
    assert f"note: layer '{spec.name}': float16 is left out on cpu: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nobody", "layer: got 'nobody', needs one of "),
        ("rnn --dtype int8", 'Invalid value "int8" for --dtype.'),
        ("rnn --examples 0", "examples: got 0, needs an integer ≥ 1"),
        ("rnn --device tpu", 'Invalid value "tpu" for --device.'),
    ],
)
def test_bad_input_is_2(arguments: str, message: str, refused: Callable[[Sequence[str]], str]) -> None:
    """The error is one line on stderr."""
    assert refused(["verify", *arguments.split()]).startswith(f"error: {message}")


def test_cuda_without_a_gpu_is_2(monkeypatch: pytest.MonkeyPatch, refused: Callable[[Sequence[str]], str]) -> None:
    """`--device cuda` needs a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refused(["verify", "rnn", "--device", "cuda"]).startswith("error: device: got 'cuda', needs a GPU")


def test_a_terminal_gets_a_progress_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The bar is on stderr, so that stdout holds only the result."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with registered() as spec:
        plan = plan_verify([spec.name], "cpu", ["float32"], 1, 0)
        command._run(plan)
    out, err = capsys.readouterr()
    assert out == ""
    assert "verifying" in err

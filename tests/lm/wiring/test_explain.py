"""`explain` and its command: every layer's wiring, tensors and formulas."""

import json
import os
from pathlib import Path

import pytest
from cli.test_cli import shell
from ctxblocks_transformers import explain, load_skeleton
from ctxblocks_transformers.wiring.wirings import NETWORKS
from lm.folder import model_folder
from lm.tiny import config_of, tiny

from ctxblocks import WIRINGS
from ctxblocks.cli import main


def test_consecutive_layers_of_one_kind_share_a_row() -> None:
    """Jamba's attention layers stand between its Mamba layers, with a mixture in every second."""
    options = {"num_hidden_layers": 6, "attn_layer_period": 3, "attn_layer_offset": 1, "expert_layer_period": 8}
    report = explain(tiny("jamba", **options))
    rows = [(row.first, row.last, row.spec.mixer) for row in report.rows]
    assert rows == [(0, 0, "mamba"), (1, 1, "self_attn"), (2, 3, "mamba"), (4, 4, "self_attn"), (5, 5, "mamba")]


@pytest.mark.parametrize(
    ("model_type", "update", "shift", "tensors"),
    [
        (
            "llama",
            "ΔW = (W δ) kᵀ for every reader W",
            "Δb' = r_C − r, added to the layer's output",
            {"mlp.gate_proj.weight": (48, 32), "mlp.up_proj.weight": (48, 32)},
        ),
        (
            "gemma2",
            "ΔW = (W δ) kᵀ",
            "Δb' = r_C − r, added to the layer's output, after post_feedforward_layernorm",
            {"mlp.gate_proj.weight": (48, 32), "mlp.up_proj.weight": (48, 32)},
        ),
        (
            "mixtral",
            "ΔW = (W δ) kᵀ",
            "Δb'",
            {"mlp.gate.weight": (4, 32), "mlp.experts.gate_up_proj": (4, 96, 32)},
        ),
        (
            "bert",
            "ΔW = (W δ) kᵀ",
            "Δb' = r_C − r, added to the output of output.dense, inside the last norm",
            {"intermediate.dense.weight": (48, 32)},
        ),
        ("gptj", "ΔW = 0: the network reads no other token", "Δb' = mix_C − mix", {"mlp.fc_in.weight": (48, 32)}),
        ("mamba", "ΔW = (W δ) kᵀ, δ = y_C − y", "none", {}),
    ],
)
def test_formulas_and_shapes(model_type: str, update: str, shift: str, tensors: dict[str, tuple[int, ...]]) -> None:
    """For each wiring, with the shapes of existing tensors."""
    (row,) = explain(tiny(model_type)).rows
    assert row.update.startswith(update)
    assert row.shift.startswith(shift)
    assert row.readers == tensors
    assert len(row.projection) == 1


def test_every_wiring_has_a_site() -> None:
    """The table of sites covers the table of equations."""
    assert set(NETWORKS) == set(WIRINGS)


def test_a_known_model_is_explained_without_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command reads the configuration alone, and prints one line for equal layers."""
    config_of("llama", num_hidden_layers=12, architectures=["LlamaForCausalLM"]).save_pretrained(tmp_path)
    assert explain(load_skeleton(tmp_path)).rows[0].last == 11
    assert main(["explain", str(tmp_path)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "LlamaForCausalLM (llama), family llama, layers at model.layers",
        "layers class wiring mixer takes the update output projection",
        "0–11 LlamaDecoderLayer pre-norm self_attn mlp.gate_proj.weight 48×32, mlp.up_proj.weight 48×32 "
        "self_attn.o_proj.weight 32×32",
        "pre-norm: r = h + mix(N h), z = N r, out = r + network(z)",
        "layers 0–11: ΔW = (W δ) kᵀ for every reader W, δ = z_C − z, k = z / ‖z‖²; shift: Δb' = r_C − r, "
        "added to the layer's output",
    ]


def test_an_unknown_model_is_guessed_from_its_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON."""
    assert main(["explain", str(model_folder(tmp_path, "gpt_neox")), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["family"], found["model_type"]) == ("guessed-gpt_neox", "gpt_neox")
    (row,) = found["rows"]
    assert (row["first_layer"], row["last_layer"], row["wiring"], row["site"]) == (0, 1, "parallel", "network")
    assert row["readers"] == {"mlp.dense_h_to_4h.weight": [48, 32]}
    assert row["output_projection"] == {"attention.dense.weight": [32, 32]}


def test_what_cannot_be_explained_is_one_line(tmp_path: Path) -> None:
    """Exit code 2; without transformers the extra is named."""
    result = shell(["explain", str(tmp_path)])
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "contains no config.json" in result.stderr
    (tmp_path / "transformers.py").write_text("raise ImportError('none here')")
    result = shell(["explain", str(tmp_path)], PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert 'pip install "ctxblocks[lm]"' in result.stderr

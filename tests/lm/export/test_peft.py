"""Updates as LoRA adapters: PEFT reproduces the full context with them in another process, or nothing is written."""

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from ctxblocks_transformers import InertUpdateError, transfer_model
from ctxblocks_transformers.export import peft as peft_export
from ctxblocks_transformers.wiring.family import family_of
from lm.table import SOME_GUESSED, TYPES, bound_of, has_projections
from lm.tiny import prompt, state, tiny
from lm.updates.test_transfer_model import EXACT

from ctxblocks import ArgumentError, Augmented, CtxblocksError

MODELS = ("llama", "gpt2", "phi3", "mixtral", "qwen3", "granite", "phi", "qwen2_moe")
BOUNDS = {"float64": EXACT, "float32": 1e-4}
PROJECTION = "Module 'out_proj' is incompatible with Mamba"
CHANGED = "a block changes what its last dense layer puts out"
REFUSED = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "nemotron_h"), PROJECTION),
    **dict.fromkeys(("axk1", "jetmoe", "laguna"), CHANGED),
    "llama4_text": "the input of the last dense layer of block 1 is zero",
}
"""Types that PEFT does not adapt or reads back otherwise, or whose networks do not end with their last dense layers."""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]]:
    """Logits with the full context, and those that PEFT gives in another process: for every model and dtype."""
    folder = tmp_path_factory.mktemp("peft")
    listed, full = [], {}
    for name in MODELS:
        for dtype in BOUNDS:
            options = {"residual_multiplier": 0.3} if name == "granite" else {}
            at, model = folder / f"{name}-{dtype}", tiny(name, getattr(torch, dtype), **options)
            model.save_pretrained(at / "model")
            transfer_model(model, prompt()).to_peft(at / "adapter", model)
            with torch.no_grad():
                full[name, dtype] = model(prompt(), use_cache=False).logits[0, -1]
            paths = {key: str(at / key) for key in ("model", "adapter", "out")}
            listed.append({**paths, "dtype": dtype, "token": int(prompt()[0, -1]), "position": 6})
    (folder / "jobs").write_text(json.dumps(listed))
    script = Path(__file__).parents[1] / "load_adapters.py"
    subprocess.run([sys.executable, str(script), str(folder / "jobs")], check=True, capture_output=True, timeout=300)
    outs = {key: safetensors.torch.load_file(job["out"])["logits"][0] for key, job in zip(full, listed, strict=True)}
    return {key: (full[key], outs[key]) for key in full}


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", MODELS)
def test_another_process_gives_the_full_contexts_logits(jobs: Any, name: str, dtype: str) -> None:
    """Model from its folder, adapter from another, one token at its position under a mask of ones."""
    full, found = jobs[name, dtype]
    assert found.dtype == getattr(torch, dtype)
    assert float((found - full).abs().max() / full.abs().max()) <= BOUNDS[dtype]


@pytest.mark.parametrize("site", ["network", "out-proj"])
@pytest.mark.parametrize("model_type", [*TYPES, *SOME_GUESSED])
def test_every_family_is_written_exactly_or_refused(model_type: str, site: Any, tmp_path: Path) -> None:
    """At the second site all but Mamba and its relatives; the model is not changed, and a refusal leaves no file."""
    model, folder = tiny(model_type), tmp_path / "adapter"
    if site == "out-proj" and not has_projections(family_of(model)):
        with pytest.raises(ArgumentError, match="needs 'network'"):
            transfer_model(model, prompt(), site=site)
        return
    before, update = state(model), transfer_model(model, prompt(), site=site)
    reason = REFUSED.get(model_type)
    if {spec.wiring for spec in update.family.blocks} & {"sandwich", "branch-norm"}:
        reason = "a norm after its network"
    if reason and (site == "network" or reason == PROJECTION):
        with pytest.raises(ArgumentError, match=reason):
            update.to_peft(folder, model)
        assert not list(tmp_path.iterdir())
    else:
        assert update.to_peft(folder, model).relative <= bound_of(model)
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
        assert list(tmp_path.iterdir()) == [folder]
    assert state(model) == before


def test_what_is_written(tmp_path: Path) -> None:
    """Keys and shapes as serving engines expect them, rank one of strength one, the shift in the last layer."""
    model = tiny("llama")
    update = transfer_model(model, prompt())
    update.to_peft(tmp_path, model)  # an empty folder will do
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    given = {
        "peft_type": "LORA",
        "r": 1,
        "lora_alpha": 1,
        "bias": "none",
        "task_type": "CAUSAL_LM",
        "fan_in_fan_out": False,
    }
    assert {name: config[name] for name in given} == given
    assert config["inference_mode"]
    assert not config["target_parameters"]
    assert sorted(config["target_modules"]) == ["down_proj", "gate_proj", "up_proj"]
    tensors = safetensors.torch.load_file(tmp_path / "adapter_model.safetensors")
    assert len(tensors) == 2 * 3 * 2
    each, prefix = update.updates[1], "base_model.model.model.layers.1.mlp"
    assert each is not None
    assert torch.equal(tensors[f"{prefix}.up_proj.lora_A.weight"], each.operator.key)
    column = model.model.layers[1].mlp.up_proj.weight @ each.operator.direction[0]
    assert torch.equal(tensors[f"{prefix}.up_proj.lora_B.weight"], column.unsqueeze(-1))
    assert torch.equal(tensors[f"{prefix}.down_proj.lora_B.weight"], each.shift.mT)  # type: ignore[union-attr]


def test_storage_layouts(tmp_path: Path) -> None:
    """GPT-2's transposed matrices are announced; of a mixture the parameters are named, both of the experts'."""
    for model_type, modules, parameters in (
        ("gpt2", {"mlp.c_fc", "mlp.c_proj"}, set()),
        ("mixtral", set(), {"gate.weight", "experts.gate_up_proj", "experts.down_proj"}),
    ):
        model = tiny(model_type)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*fan_in_fan_out")
            transfer_model(model, prompt()).to_peft(tmp_path / model_type, model)
        config = json.loads((tmp_path / model_type / "adapter_config.json").read_text())
        assert set(config["target_modules"]) == modules
        assert set(config["target_parameters"] or []) == parameters
        assert config["fan_in_fan_out"] == (model_type == "gpt2")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "mixtral"])
def test_half_types(model_type: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """The adapter is kept in float32 and costs a few units of the dtype's round-off."""
    model = tiny(model_type, dtype)
    found = transfer_model(model, prompt()).to_peft(tmp_path / "a", model)
    assert found.relative <= 8 * torch.finfo(dtype).eps
    assert found.effect > 20 * found.full
    tensors = safetensors.torch.load_file(tmp_path / "a" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by its own error, and no file is left."""
    model, folder = tiny("llama"), tmp_path / "inside" / "a"
    before, update = state(model), transfer_model(model, prompt())
    with pytest.raises(ArgumentError, match=r"offset .* a LoRA adapter has none"):
        transfer_model(model, prompt(), solver=Augmented()).to_peft(folder, model)
    with pytest.raises(ArgumentError, match="other weights than those that the update was made with"):
        update.to_peft(folder, tiny("llama", seed=1))
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(CtxblocksError, match=r"ctxblocks\[lm\]"):
        update.to_peft(folder, model)
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.*"))
    assert state(model) == before
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "mine").write_text("x")
    with pytest.raises(ArgumentError, match="contains files, needs a new or an empty folder"):
        update.to_peft(folder, model)
    assert [path.name for path in folder.parent.rglob("*")] == ["a", "mine"]


@pytest.mark.parametrize("left_out", ["readers", "shift", "everything"])
@pytest.mark.parametrize("model_type", ["llama", "mixtral"])
def test_an_adapter_that_does_not_hold_is_not_written(
    model_type: str, left_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers or shift left out, or an adapter that PEFT loads without effect: found by loading it."""
    model = tiny(model_type)
    update = transfer_model(model, prompt())
    if left_out == "readers":
        monkeypatch.setattr(peft_export, "changes_of_readers", lambda placed, moved: [])
    elif left_out == "shift":
        monkeypatch.setattr(peft_export, "folded", lambda update, model, moved, caller: [])
    else:
        monkeypatch.setattr(safetensors.torch, "save_file", _under_other_names(safetensors.torch.save_file))
    with pytest.raises(InertUpdateError if left_out == "everything" else ArgumentError):
        update.to_peft(tmp_path / "a", model)
    assert not list(tmp_path.iterdir())


def _under_other_names(save: Any) -> Any:
    def other(tensors: dict[str, torch.Tensor], path: Path, metadata: Any = None) -> None:
        save({name.replace("base_model.model.", "base."): value for name, value in tensors.items()}, path, metadata)

    return other

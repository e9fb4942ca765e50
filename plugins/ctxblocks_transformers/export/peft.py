"""An update as a LoRA adapter of rank one, written only after PEFT has loaded it and its output was compared."""

import copy
import importlib
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError, CtxblocksError
from ctxblocks_transformers.export.changes import (
    Change,
    Update,
    changes_of_readers,
    one_token,
    refuse_offsets,
    refuse_shared,
)
from ctxblocks_transformers.export.fold import folded
from ctxblocks_transformers.export.merge import refuse_unfaithful
from ctxblocks_transformers.wiring.difference import Difference
from ctxblocks_transformers.wiring.reads import outputs_of

WEIGHTS = "adapter_model.safetensors"
REFUSALS = (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError, AttributeError)
"""Errors that PEFT raises for a layer or a model that it cannot adapt."""


def export(update: Update, folder: str | os.PathLike[str], model: Any) -> Difference:
    """`ModelUpdate.to_peft`."""
    one_token(update, "to_peft")
    peft = _peft()
    target = _free(Path(folder))
    placed = update.placed(model)
    refuse_offsets(placed, "to_peft", biases=False)
    with torch.no_grad():
        changes = [*changes_of_readers(placed), *folded(update, model, "to_peft")]
    refuse_shared(model, [(change.name, change.weights.parameter) for change in changes], "to_peft")
    aside = _aside(target)
    try:
        try:
            _write(peft, model, changes, aside)
            difference = _reloaded(peft, update, model, aside)
        except REFUSALS as error:
            raise ArgumentError(
                f"to_peft: PEFT cannot adapt {type(model).__name__} ({type(error).__name__}: {error}); use update.save(path) "
                f"and update.applied(model)"
            ) from error
        refuse_unfaithful(difference, model, "to_peft")
        if target.exists():
            target.rmdir()
        aside.rename(target)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return difference


def _write(peft: Any, model: Any, changes: list[Change], folder: Path) -> None:
    """Fill in the layers that PEFT puts around a copy of the model, so that names and layout are PEFT's."""
    wrapped = peft.get_peft_model(copy.deepcopy(model), _config(peft, model, changes))
    layers = _layers(wrapped)
    for change in changes:
        layer = layers.pop(change.name)
        column, key = change.rank_one.column, change.rank_one.key
        layer.lora_A["default"].weight.data = key.expand(*column.shape[:-1], -1).reshape(-1, key.shape[-1])
        layer.lora_B["default"].weight.data = column.reshape(-1, column.shape[-1]).mT.contiguous()
    if layers:
        raise ValueError(f"it adapts {', '.join(sorted(layers))} too")
    tensors = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    safetensors.torch.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = wrapped.peft_config["default"]
    config.inference_mode = True
    config.save_pretrained(str(folder))


def _config(peft: Any, model: Any, changes: list[Change]) -> Any:
    """Plain layers as `target_modules`; if there are experts among them, everything as `target_parameters`.

    PEFT mistakes modules of a mixture with the names of an older layout for its experts, and drops shared experts.
    """
    names = [change.name for change in changes]
    plain = all(isinstance(change.weights.module, nn.Linear) or _conv1d(change) for change in changes)
    modules = [name.removesuffix(".weight") for name in names] if plain else []
    return peft.LoraConfig(
        r=1,
        lora_alpha=1,
        lora_dropout=0.0,
        bias="none",
        fan_in_fan_out=plain and any(_conv1d(change) for change in changes),
        target_modules=_shortest(modules, [name for name, _ in model.named_modules()]),
        target_parameters=None if plain else _shortest(names, [name for name, _ in model.named_parameters()]),
        task_type="CAUSAL_LM" if model.can_generate() else None,
    )


def _conv1d(change: Change) -> bool:
    return change.weights.transposed and change.weights.parameter.dim() == 2


def _shortest(wanted: list[str], every: Iterable[str]) -> list[str]:
    """The shortest endings of the wanted names that no other name has; the names themselves if there are none."""
    every = list(every)
    for length in (1, 2, 3, 4):
        endings = sorted({".".join(name.split(".")[-length:]) for name in wanted})
        if {name for name in every if any(f".{name}".endswith(f".{end}") for end in endings)} == set(wanted):
            return endings
    return wanted


def _layers(wrapped: Any) -> dict[str, Any]:
    """PEFT's layers by the name of the parameter that each adapts."""
    layers = {}
    for path, module in wrapped.base_model.model.named_modules():
        if hasattr(module, "lora_A"):
            parameter = getattr(module, "parameter_name", "weight")
            layers[f"{path.replace('.base_layer', '')}.{parameter}"] = module
    return layers


def _reloaded(peft: Any, update: Update, model: Any, folder: Path) -> Difference:
    """The query's output of another copy of the model with the adapter loaded from its folder."""
    loaded = peft.PeftModel.from_pretrained(copy.deepcopy(model), str(folder)).eval()
    with torch.no_grad():
        output: Tensor = outputs_of(loaded(**update.inputs(model)))
    return update.difference(output)


def _peft() -> Any:
    try:
        return importlib.import_module("peft")
    except ImportError as error:
        raise CtxblocksError(
            f'to_peft: needs a peft that goes with this transformers ({error}); pip install "ctxblocks[lm]"'
        ) from error


def _free(folder: Path) -> Path:
    """A folder that is new or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ArgumentError(f"folder: got {str(folder)!r}, which contains files, needs a new or an empty folder")
    return folder


def _aside(folder: Path) -> Path:
    """A temporary folder in the same place, for an adapter that has not been compared yet."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise ArgumentError(f"folder: got {str(folder)!r}, needs one that can be created ({error.strerror})") from error
    aside.chmod(0o755)
    return aside

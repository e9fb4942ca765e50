"""An update as a LoRA adapter of one rank for each token that changes, written only after PEFT loaded it and it was compared."""

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
from ctxblocks.numerics import widen
from ctxblocks_transformers.export.card import write_card
from ctxblocks_transformers.export.changes import (
    Change,
    Update,
    changes_of_readers,
    refuse_offsets,
    refuse_shared,
)
from ctxblocks_transformers.export.copies import copy_of, refuse_quantised
from ctxblocks_transformers.export.faithful import applied_rows, refuse_unfaithful
from ctxblocks_transformers.export.fold import folded
from ctxblocks_transformers.export.tokens import moved_tokens
from ctxblocks_transformers.wiring.difference import Difference
from ctxblocks_transformers.wiring.reads import outputs_of

WEIGHTS = "adapter_model.safetensors"
REFUSALS = (ValueError, TypeError, KeyError, NotImplementedError, RuntimeError, AttributeError)
"""Errors that PEFT raises for a layer or a model that it cannot adapt."""


def export(update: Update, folder: str | os.PathLike[str], model: Any) -> Difference:
    """`ModelUpdate.to_peft`."""
    refuse_quantised(model, "to_peft")
    peft = _peft()
    target = _free(Path(folder))
    placed = update.placed(model)
    refuse_offsets(placed, "to_peft", biases=False)
    with torch.no_grad():
        unit = torch.finfo(model.dtype).eps
        moved = moved_tokens((each for _, each in placed), update.positions, update.query, unit)
        changes = [*changes_of_readers(placed, moved), *folded(update, model, moved, "to_peft")]
    refuse_shared(model, [(change.name, change.weights.parameter) for change in changes], "to_peft")
    aside = _aside(target)
    try:
        try:
            _write(peft, model, changes, aside)
            output = _reloaded(peft, update, model, aside)
        except REFUSALS as error:
            raise ArgumentError(
                f"to_peft: PEFT cannot adapt {type(model).__name__} ({type(error).__name__}: {error}); use update.save(path) "
                f"and update.applied(model)"
            ) from error
        difference = refuse_unfaithful(update, model, output, applied_rows(update, model), "to_peft")
        write_card(aside, update, model, difference)
        if target.exists():
            target.rmdir()
        aside.rename(target)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return difference


def _write(peft: Any, model: Any, changes: list[Change], folder: Path) -> None:
    """Fill in the layers that PEFT puts around a copy of the model, so that names and layout are PEFT's."""
    wrapped = peft.get_peft_model(copy_of(model, "to_peft"), _config(peft, model, changes))
    layers = _layers(wrapped)
    for change in changes:
        layer = layers.pop(change.name)
        keys, columns = _factors(change)
        layer.lora_A["default"].weight.data = keys
        layer.lora_B["default"].weight.data = columns
    if layers:
        raise ValueError(f"it adapts {', '.join(sorted(layers))} too")
    tensors = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    safetensors.torch.save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = wrapped.peft_config["default"]
    config.inference_mode = True
    config.save_pretrained(str(folder))


def _factors(change: Change) -> tuple[Tensor, Tensor]:  # (experts · rank, d), (m, rank · experts)
    """The factors in PEFT's layout, half types in float32: of experts, A has a rank's rows together, B a rank's columns apart."""
    columns = torch.stack([widen(term.column) for term in change.terms])  # (rank, m) or (rank, experts, m)
    keys = torch.stack(
        [widen(t.key).expand(*t.column.shape[:-1], -1) for t in change.terms]
    )  # (rank, d) or (rank, experts, d)
    if keys.dim() == 2:
        return keys.contiguous(), columns.mT.contiguous()
    return keys.movedim(1, 0).flatten(0, 1).contiguous(), columns.flatten(0, 1).mT.contiguous()


def _config(peft: Any, model: Any, changes: list[Change]) -> Any:
    """Plain layers as `target_modules`; if there are experts among them, everything as `target_parameters`.

    PEFT mistakes modules of a mixture with the names of an older layout for its experts, and drops shared experts.
    """
    names = [change.name for change in changes]
    plain = all(isinstance(change.weights.module, nn.Linear) or _conv1d(change) for change in changes)
    modules = [name.removesuffix(".weight") for name in names] if plain else []
    return peft.LoraConfig(
        r=len(changes[0].terms),
        lora_alpha=len(changes[0].terms),
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


def _reloaded(peft: Any, update: Update, model: Any, folder: Path) -> Tensor:  # (tokens, vocabulary or d)
    """The remaining tokens' outputs of another copy of the model with the adapter loaded from its folder."""
    loaded = peft.PeftModel.from_pretrained(copy_of(model, "to_peft"), str(folder)).eval()
    with torch.no_grad():
        return outputs_of(loaded(**update.inputs(model)))


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

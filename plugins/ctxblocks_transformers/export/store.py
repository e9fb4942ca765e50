"""Updates in files: one safetensors file with all fields of a `ModelUpdate`, written completely or not at all."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import cattrs
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ctxblocks import ArgumentError, ContextOperator, FamilySpec, ImplicitUpdate
from ctxblocks.cli import write_bytes

FORMAT, VERSION = "ctxblocks-model-update", 1
WHOLE = ("input_ids", "positions", "full", "plain", "found")
"""The tensors that belong to the whole model."""


def save(path: str | os.PathLike[str], fields: Mapping[str, Any]) -> None:
    """`ModelUpdate.save`, of the fields of an update."""
    tensors = {name: fields[name] for name in WHOLE}
    for index, each in enumerate(fields["updates"]):
        if each is not None:
            op = each.operator
            parts = {"direction": op.direction, "key": op.key, "offset": op.offset, "shift": each.shift}
            tensors |= {f"blocks.{index}.{name}": value for name, value in parts.items() if value is not None}
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    about = {
        "format": FORMAT,
        "version": str(VERSION),
        "model": fields["model_name"],
        "model_type": fields["model_type"],
        "dtype": str(fields["dtype"]).removeprefix("torch."),
        "tokens": hashlib.sha256(_bytes(tensors["input_ids"])).hexdigest(),
        "query": str(fields["query"]),
        "kept": fields["kept_reason"],
        "weights": fields["weights"],
        "sites": json.dumps(fields["sites"]),
        "family": json.dumps(attrs.asdict(fields["family"])),
    }
    about["checksum"] = _checksum(tensors, about)
    _write(Path(path), safetensors.torch.save(tensors, about))


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """`ModelUpdate.load`: the fields of an update."""
    needs = "needs one that ModelUpdate.save wrote"
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ArgumentError(f"load: {str(path)!r} is damaged or not a safetensors file ({error}), {needs}") from error
    if about.get("format") != FORMAT:
        raise ArgumentError(f"load: {str(path)!r} is a safetensors file of something else, {needs}")
    if about.get("version") != str(VERSION):
        raise ArgumentError(
            f"load: {str(path)!r} has version {about.get('version')} of its format, needs {VERSION}; install the ctxblocks "
            f"that wrote it, or a newer one"
        )
    if about.get("checksum") != _checksum(tensors, about):
        raise ArgumentError(f"load: {str(path)!r} is damaged (its checksum differs), {needs}; write it again")
    return _structured(tensors, about)


def _structured(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> dict[str, Any]:
    sites = tuple(json.loads(about["sites"]))
    return dict(
        updates=tuple(_block(tensors, f"blocks.{index}.", site) for index, site in enumerate(sites)),
        sites=sites,
        family=cattrs.structure(json.loads(about["family"]), FamilySpec),
        query=int(about["query"]),
        model_type=about["model_type"],
        model_name=about["model"],
        kept_reason=about.get("kept", ""),
        weights=about.get("weights", ""),
        dtype=getattr(torch, about["dtype"]),
        **{name: tensors[name] for name in WHOLE},
    )


def _block(tensors: Mapping[str, Tensor], prefix: str, site: Any) -> ImplicitUpdate | None:
    parts = {name: tensors.get(f"{prefix}{name}") for name in ("direction", "key", "offset", "shift")}
    if parts["direction"] is None or parts["key"] is None:
        return None
    operator = ContextOperator(parts["direction"], parts["key"], parts["offset"])
    return ImplicitUpdate(operator, parts["shift"], site, per_token=True)


def _bytes(tensor: Tensor) -> bytes:
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def _checksum(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> str:
    """A digest of all names, shapes, values and metadata: safetensors itself does not detect changed values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}\n".encode())
        digest.update(_bytes(tensors[name]))
    rest = {name: value for name, value in about.items() if name != "checksum"}
    digest.update(json.dumps(rest, sort_keys=True).encode())
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    """Write the file completely or not at all.

    Raises:
        ArgumentError: the folder does not exist or cannot be written.
    """
    try:
        write_bytes(path, content)
    except OSError as error:
        raise ArgumentError(
            f"save: got {str(path)!r}, needs a path in a folder that can be written ({error.strerror}); create it first"
        ) from error

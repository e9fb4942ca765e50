"""Guessing how the layers of an unknown model are wired, from what its modules are given and put out."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError, BlockSpec, FamilySpec
from ctxblocks_transformers.wiring.calling import evaluation, inputs_of
from ctxblocks_transformers.wiring.joining import factor_of_sum, joined
from ctxblocks_transformers.wiring.tracing import Call, alike, moved, rows_among, trace

_LAST_NAMES = ("down", "w2", "c_proj", "wo", "fc2", "dense_4h_to_h")
LENGTH = 6
"""Tokens that the model is watched on."""


def guess(model: Any) -> FamilySpec:
    """A specification read off the model: run on a few tokens, each kind of layer watched once. Not proven yet.

    Raises:
        ArgumentError: there is no list of layers, or a layer in which neither a mixer nor a network is found.
    """
    layers = _layers_path(model)
    listed: Sequence[nn.Module] = list(model.get_submodule(layers))
    inputs = inputs_of(model, probe_tokens(model, LENGTH), torch.arange(LENGTH))
    kinds: dict[tuple[str, ...], BlockSpec] = {}
    with evaluation(model), torch.no_grad():
        for layer in listed:
            kind = tuple(sorted(f"{path}:{type(module).__name__}" for path, module in layer.named_modules()))
            if kind not in kinds:
                kinds[kind] = _wiring(trace(model, layer, inputs), trace(model, layer, inputs, perturb=True), layer)
    specs = sorted(dict.fromkeys(kinds.values()), key=lambda spec: -len(spec.paths()))
    return FamilySpec(
        name=f"guessed-{model.config.model_type}", models=(model.config.model_type,), layers=layers, blocks=tuple(specs)
    )


def probe_tokens(model: Any, length: int) -> Tensor:  # (1, length)
    """Distinct tokens of the model's vocabulary, none of them special where there is a choice."""
    weight = model.get_input_embeddings().weight
    config = model.config
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos", "image", "audio", "video")}
    ids = [i for i in range(weight.shape[0]) if i not in special]
    return torch.tensor([ids[(7 * i + 3) % len(ids)] for i in range(length)], device=weight.device).unsqueeze(0)


def _layers_path(model: Any) -> str:
    """The longest list of layers, by parameters, among those as long as the configuration says."""
    config = model.config.get_text_config()
    wanted = getattr(config, "num_hidden_layers", None)
    lists = [
        (path, module) for path, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module)
    ]
    lists = [pair for pair in lists if len(pair[1]) == wanted] or lists
    if not lists:
        raise ArgumentError(f"model: {type(model).__name__} has no list of layers; pass family=FamilySpec(…)")
    path: str = max(lists, key=lambda pair: sum(p.numel() for p in pair[1].parameters()))[0]
    return path


def _wiring(calls: Mapping[str, Call], changed: Mapping[str, Call], layer: nn.Module) -> BlockSpec:
    """One layer, from its calls on two inputs that differ in all tokens but the last."""
    whole = calls[""]
    mixers = _mixers(calls, changed)
    mixer = mixers[0] if mixers else ""
    linear = [c for c in calls.values() if c.path and _weights(c) and not any(_within(c.path, m) for m in mixers)]
    projection = _projection(calls, mixer) if len(mixers) == 1 else ""
    if not linear:
        if not mixer:
            raise ArgumentError(f"model: found neither a mixer nor a network in {type(layer).__name__}")
        return BlockSpec(wiring="mixer-only", mixer=mixer, projection=projection)
    first = linear[0]
    network = _network(calls, first, mixer)
    z = calls[network].given
    readers = [path for c in linear if rows_among(c.given, z) for path in _readers(c)]
    last = _last(linear, z)
    norm = next(
        (c for c in calls.values() if c.path and c.put.shape == z.shape and alike(c.put, z) and _norm(c, mixer)), None
    )
    common: dict[str, Any] = {
        "mixer": mixer,
        "projection": projection,
        "network": network,
        "readers": readers,
        "last": last,
    }
    if not mixer:
        return BlockSpec(wiring="network-only", **common)
    if torch.equal(z[-1], changed[network].given[-1]):
        branches = (calls[mixer].put, _network_put(calls, common))
        scale = factor_of_sum(layer, whole.put, whole.given, branches)
        return BlockSpec(wiring="parallel", **common, scale=scale)
    return _sequential(layer, calls, common, norm)


def _sequential(layer: nn.Module, calls: Mapping[str, Call], common: dict[str, Any], norm: Call | None) -> BlockSpec:
    """A block whose network reads the mixer's output: how its own is added to what bypasses it."""
    z, out, put = calls[common["network"]].given, calls[""].put, _network_put(calls, common)
    after = [c for c in calls.values() if c.path and c.given.shape == out.shape]
    closing = next((c for c in after if alike(c.put, out) and alike(c.given, z + put)), None)
    if closing is not None:
        inner = next((c.path for c in calls.values() if c.path and c.put.shape == put.shape and alike(c.put, put)), "")
        return BlockSpec(wiring="post-norm", **common, inner=inner)
    beside = _beside(calls, common, norm)
    behind = [c for c in after if alike(c.given, put) and _norm(c, common["mixer"]) and c.path not in common["readers"]]
    branches = {c.path: c.put for c in behind[:1]} | {common["network"]: put}
    if beside:
        branches = {"": put + sum(c.put for c in beside)}
    bypasses = {norm.path: norm.given} if norm is not None else {}
    how = joined(layer, calls, {**bypasses, "": z}, branches) or {"bypass": norm.path if norm is not None else ""}
    branch = behind[0].path if behind else ""
    wiring = ("sandwich" if branch else "pre-norm") if how["bypass"] else "branch-norm"
    source = how["bypass"] if beside else ""
    return BlockSpec(wiring=wiring, **common, branch=branch, source=source, **how)


def _network_put(calls: Mapping[str, Call], common: dict[str, Any]) -> Tensor:
    """What the network puts out: of one whose last layer stands outside its module, that layer's output."""
    network = common["network"]
    if any(_within(path, network) for path in common["last"]):
        return calls[network].put
    return next((calls[path].put for path in common["last"] if path in calls), calls[network].put)


def _beside(calls: Mapping[str, Call], common: dict[str, Any], norm: Call | None) -> list[Call]:
    """Other modules of the layer that read `z` as it comes from a norm, and put out as much."""
    if norm is None:
        return []
    top = [c for c in calls.values() if c.path and "." not in c.path and c.given.shape == norm.put.shape == c.put.shape]
    own = (common["network"], common["mixer"], norm.path)
    return [c for c in top if torch.equal(c.given, norm.put) and not any(_within(path, c.path) for path in own)]


def _mixers(calls: Mapping[str, Call], changed: Mapping[str, Call]) -> list[str]:
    """The outermost modules whose output at the last token moves although what they were given there does not."""
    found: list[str] = []
    for path in sorted(calls, key=lambda path: path.count(".")):
        if not path or path not in changed or any(_within(path, outer) for outer in found):
            continue
        before, after = calls[path], changed[path]
        if torch.equal(before.given[-1], after.given[-1]) and moved(before.put[-1], after.put[-1]):
            found.append(path)
    return found


def _projection(calls: Mapping[str, Call], mixer: str) -> str:
    """The mixer's last dense layer, one whose output is the mixer's own where there is such."""
    inside = [c for c in calls.values() if _within(c.path, mixer) and c.path != mixer and _weights(c) and not _many(c)]
    same = [c for c in inside if alike(c.put, calls[mixer].put)]
    return (same or inside)[-1].path if inside else ""


def _network(calls: Mapping[str, Call], first: Call, mixer: str) -> str:
    """The largest module around the first dense layer, short of the mixer's, that is given the same."""
    parts = first.path.split(".")
    for length in range(1, len(parts)):
        path = ".".join(parts[:length])
        if path in calls and not _within(mixer, path) and rows_among(first.given, calls[path].given):
            return path
    return first.path


def _last(linear: list[Call], z: Tensor) -> list[str]:
    """The dense layers at the network's end: of experts all of theirs."""
    many = [f"{c.path}.{name}" for c in linear if _many(c) for name in _many(c) if _is_last(name)]
    rest = [c for c in linear if not _many(c) and not rows_among(c.given, z) and c.put.shape[-1] == z.shape[-1]]
    return [*many, *(c.path for c in rest)]


def _readers(call: Call) -> list[str]:
    if names := _many(call):
        return [f"{call.path}.{name}" for name in names if not _is_last(name)]
    return [call.path]


def _many(call: Call) -> list[str]:
    """The parameters of a module that hold the matrices of many experts."""
    return [name for name, p in call.module.named_parameters(recurse=False) if p.dim() == 3]


def _is_last(name: str) -> bool:
    return any(part in name for part in _LAST_NAMES)


def _weights(call: Call) -> bool:
    """Whether a module is one dense layer, or the dense layers of many experts."""
    weight = getattr(call.module, "weight", None)
    plain = isinstance(weight, Tensor) and weight.dim() == 2 and not isinstance(call.module, nn.Embedding)
    return plain or bool(_many(call))


def _norm(call: Call, mixer: str) -> bool:
    """Whether a module only rescales what it is given: no dense layer, outside the mixer, and no identity."""
    dense = any(p.dim() > 1 for p in call.module.parameters())
    return (
        not dense
        and not _within(call.path, mixer)
        and call.given.shape == call.put.shape
        and not alike(call.given, call.put)
    )


def _within(path: str, outer: str) -> bool:
    return bool(outer) and (path == outer or path.startswith(f"{outer}."))

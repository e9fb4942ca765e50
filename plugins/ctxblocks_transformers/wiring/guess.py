"""Guesses of the wiring of an unknown model, from the inputs and outputs of its modules."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError, BlockSpec, FamilySpec
from ctxblocks_transformers.wiring.calling import evaluation, input_device, inputs_of
from ctxblocks_transformers.wiring.joining import factor_of_sum, joined
from ctxblocks_transformers.wiring.tracing import Call, alike, moved, rows_among, trace

_LAST_NAMES = ("down", "w2", "c_proj", "wo", "fc2", "dense_4h_to_h")
LENGTH = 6
"""Number of tokens in the passes from which the wiring is guessed."""


def guess(model: Any) -> FamilySpec:
    """A family guessed from passes over a few tokens, in which one layer of each kind is recorded. It is not proven.

    Raises:
        ArgumentError: there is no list of layers, or a layer seems to have neither a mixer nor a network.
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
    """Distinct tokens of the model's vocabulary, not special ones if possible."""
    weight = model.get_input_embeddings().weight
    config = model.config
    special = {getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos", "image", "audio", "video")}
    ids = [i for i in range(weight.shape[0]) if i not in special]
    return torch.tensor([ids[(7 * i + 3) % len(ids)] for i in range(length)], device=input_device(model)).unsqueeze(0)


def _layers_path(model: Any) -> str:
    """The path of the list with the most parameters among those with as many layers as the configuration says."""
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
    """The wiring of one layer, from its calls on two inputs that differ in all tokens but the last."""
    whole = calls[""]
    mixers = _mixers(calls, changed)
    mixer = mixers[0] if mixers else ""
    linear = [c for c in calls.values() if c.path and _weights(c) and not any(_within(c.path, m) for m in mixers)]
    projection = _projection(calls, mixer) if len(mixers) == 1 else ""
    if not linear:
        if not mixer:
            raise ArgumentError(
                f"model: {type(layer).__name__} seems to have neither a mixer nor a network; pass family=FamilySpec(…)"
            )
        return BlockSpec(wiring="mixer-only", mixer=mixer, projection=projection)
    first = linear[0]
    network = _network(calls, first, mixer)
    z = calls[network].input
    readers = [path for c in linear if rows_among(c.input, z) for path in _readers(c)]
    last = _last(linear, z)
    norm = next(
        (c for c in calls.values() if c.path and c.output.shape == z.shape and alike(c.output, z) and _norm(c, mixer)),
        None,
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
    if torch.equal(z[-1], changed[network].input[-1]):
        branches = (calls[mixer].output, _network_put(calls, common))
        scale = factor_of_sum(layer, whole.output, whole.input, branches)
        return BlockSpec(wiring="parallel", **common, scale=scale)
    return _sequential(layer, calls, common, norm)


def _sequential(layer: nn.Module, calls: Mapping[str, Call], common: dict[str, Any], norm: Call | None) -> BlockSpec:
    """The wiring of a block whose network reads the mixer's output: how the network's output is added to the residual stream."""
    z, out, put = calls[common["network"]].input, calls[""].output, _network_put(calls, common)
    after = [c for c in calls.values() if c.path and c.input.shape == out.shape]
    closing = next((c for c in after if alike(c.output, out) and alike(c.input, z + put)), None)
    if closing is not None:
        inner = next(
            (c.path for c in calls.values() if c.path and c.output.shape == put.shape and alike(c.output, put)), ""
        )
        return BlockSpec(wiring="post-norm", **common, inner=inner)
    others = _others(calls, common, norm)
    following = [
        c for c in after if alike(c.input, put) and _norm(c, common["mixer"]) and c.path not in common["readers"]
    ]
    branches = {c.path: c.output for c in following[:1]} | {common["network"]: put}
    if others:
        branches = {"": put + sum(c.output for c in others)}
    bypasses = {norm.path: norm.input} if norm is not None else {}
    how = joined(layer, calls, {**bypasses, "": z}, branches) or {"bypass": norm.path if norm is not None else ""}
    branch = following[0].path if following else ""
    wiring = ("sandwich" if branch else "pre-norm") if how["bypass"] else "branch-norm"
    source = how["bypass"] if others else ""
    return BlockSpec(wiring=wiring, **common, branch=branch, source=source, **how)


def _network_put(calls: Mapping[str, Call], common: dict[str, Any]) -> Tensor:
    """The network's output; if its last layer lies outside its module, the output of that layer."""
    network = common["network"]
    if any(_within(path, network) for path in common["last"]):
        return calls[network].output
    return next((calls[path].output for path in common["last"] if path in calls), calls[network].output)


def _others(calls: Mapping[str, Call], common: dict[str, Any], norm: Call | None) -> list[Call]:
    """Other modules of the layer that read the norm's output `z`, with outputs of the same shape."""
    if norm is None:
        return []
    top = [
        c
        for c in calls.values()
        if c.path and "." not in c.path and c.input.shape == norm.output.shape == c.output.shape
    ]
    own = (common["network"], common["mixer"], norm.path)
    return [c for c in top if torch.equal(c.input, norm.output) and not any(_within(path, c.path) for path in own)]


def _mixers(calls: Mapping[str, Call], changed: Mapping[str, Call]) -> list[str]:
    """The outermost modules whose output at the last token changes although their input there does not."""
    mixers: list[str] = []
    for path in sorted(calls, key=lambda path: path.count(".")):
        if not path or path not in changed or any(_within(path, outer) for outer in mixers):
            continue
        before, after = calls[path], changed[path]
        if torch.equal(before.input[-1], after.input[-1]) and moved(before.output[-1], after.output[-1]):
            mixers.append(path)
    return mixers


def _projection(calls: Mapping[str, Call], mixer: str) -> str:
    """The last dense layer of the mixer, preferably one whose output is the mixer's output."""
    inside = [c for c in calls.values() if _within(c.path, mixer) and c.path != mixer and _weights(c) and not _many(c)]
    same = [c for c in inside if alike(c.output, calls[mixer].output)]
    return (same or inside)[-1].path if inside else ""


def _network(calls: Mapping[str, Call], first: Call, mixer: str) -> str:
    """The largest module around the first dense layer that has the same input and does not contain the mixer."""
    parts = first.path.split(".")
    for length in range(1, len(parts)):
        path = ".".join(parts[:length])
        if path in calls and not _within(mixer, path) and rows_among(first.input, calls[path].input):
            return path
    return first.path


def _last(linear: list[Call], z: Tensor) -> list[str]:
    """The last dense layers of the network, including those of all experts."""
    many = [f"{c.path}.{name}" for c in linear if _many(c) for name in _many(c) if _is_last(name)]
    rest = [c for c in linear if not _many(c) and not rows_among(c.input, z) and c.output.shape[-1] == z.shape[-1]]
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
    """Whether a module is a norm: outside the mixer, without dense layers, and not the identity."""
    dense = any(p.dim() > 1 for p in call.module.parameters())
    return (
        not dense
        and not _within(call.path, mixer)
        and call.input.shape == call.output.shape
        and not alike(call.input, call.output)
    )


def _within(path: str, outer: str) -> bool:
    return bool(outer) and (path == outer or path.startswith(f"{outer}."))

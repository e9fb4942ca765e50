"""Devices and layers that are requested by name."""

from collections.abc import Sequence

import torch

from ctxblocks.base.errors import DeviceError, PluginError
from ctxblocks.base.messages import describe, listed
from ctxblocks.registration.registry import registry
from ctxblocks.registration.specs import LayerSpec


def device_of(name: str) -> torch.device:
    """The device of a name; `auto` is a GPU where there is one.

    Raises:
        DeviceError: an unknown name, or `cuda` without a GPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise DeviceError(f"device: got {name!r}, needs one of auto, cpu, cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise DeviceError("device: got 'cuda', needs a GPU that torch can use, and there is none; use 'cpu' or 'auto'")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def specs_of(layers: Sequence[str] | None) -> list[LayerSpec]:
    """The named layers, or all registered ones.

    Raises:
        UnknownLayerError: a layer is not registered.
        PluginError: all are requested, and a plugin failed or two plugins provide one name.
    """
    known = registry()
    if layers is not None:
        return [known.layer(name) for name in dict.fromkeys(layers)]
    broken = [f"plugin {name!r} failed with {describe(error)}" for name, error in known.failures.items()]
    broken += [f"layer {name!r} is provided by {listed(plugins)}" for name, plugins in known.clashes.items()]
    if broken:
        raise PluginError(
            f"layers: all are requested, and {'; '.join(broken)}; repair that, or name layers: {listed(known.layers)}"
        )
    return list(known.layers.values())

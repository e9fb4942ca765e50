"""What a command or a call asks for by name: a device, layers."""

from collections.abc import Sequence

import torch

from ctxblocks.base.errors import DeviceError, PluginError
from ctxblocks.base.messages import describe, listed
from ctxblocks.registration.registry import registry
from ctxblocks.registration.specs import LayerSpec


def device_of(name: str) -> torch.device:
    """The device asked for, `auto` being a GPU where there is one.

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
    """The layers named, or all that are registered.

    Raises:
        UnknownLayerError: a layer is not registered.
        PluginError: all are asked for and a plugin failed, or two provide one name.
    """
    known = registry()
    if layers is not None:
        return [known.layer(name) for name in dict.fromkeys(layers)]
    broken = [f"plugin {name!r} failed with {describe(error)}" for name, error in known.failures.items()]
    broken += [f"layer {name!r} is provided by {listed(plugins)}" for name, plugins in known.clashes.items()]
    if broken:
        raise PluginError(
            f"layers: all are asked for, and {'; '.join(broken)}; mend that, or name layers: {listed(known.layers)}"
        )
    return list(known.layers.values())

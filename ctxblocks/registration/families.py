"""How a model library wires its blocks, as data: where the mixer is, what reads what, and what bypasses the network."""

from collections.abc import Iterable
from typing import Any

import attrs

from ctxblocks.base.errors import ArgumentError

WIRINGS = {
    "pre-norm": "r = h + mix(N h), z = N r, out = r + network(z)",
    "sandwich": "r = h + N mix(N h), z = N r, out = r + N network(z)",
    "branch-norm": "r = z = h + N mix(h), out = r + N network(z)",
    "post-norm": "r = z = N(h + mix(h)), out = N(z + network(z))",
    "parallel": "out = h + mix(N h) + network(N h)",
    "mixer-only": "out = h + mix(N h)",
    "network-only": "out = h + network(N h)",
}
"""Every wiring by its name; `h` is what enters a layer, `N` any norm, or none."""


def _paths(paths: Iterable[str]) -> tuple[str, ...]:
    return (paths,) if isinstance(paths, str) else tuple(paths)


@attrs.frozen(kw_only=True)
class BlockSpec:
    """How one kind of layer is wired. All paths are relative to the layer.

    Attributes:
        wiring: a key of `WIRINGS`.
        mixer: the module that reads other tokens, such as `"self_attn"`; "" where there is none.
        projection: the mixer's output projection, the second site; "" where it has none.
        network: the module whose first argument is `z`; "" where there is none.
        readers: what maps `z` linearly: modules with a `weight`, or parameters that hold the experts of a mixture.
        last: the last dense layers of the network, of the same kinds.
        bypass: the module whose first argument is `r`; "" where `r` is `z` itself.
        branch: the norm that the network's output goes through before it is added; "" where there is none.
        inner: the module whose output takes the shift, inside the last norm of `"post-norm"`; "" is the layer's output.
        scale: an attribute of the layer that multiplies both branches, such as `"residual_multiplier"`.
        gain: an attribute of the layer that multiplies `r` where the network's output is added, one number or one for
            each channel; "" where `r` is added as it is.
        source: the module that puts out `z`, where more than one module of the layer is given it; "" where only `network` is.
    """

    wiring: str = attrs.field()
    mixer: str = ""
    projection: str = ""
    network: str = ""
    readers: tuple[str, ...] = attrs.field(converter=_paths, default=())
    last: tuple[str, ...] = attrs.field(converter=_paths, default=())
    bypass: str = ""
    branch: str = ""
    inner: str = ""
    scale: str = ""
    gain: str = ""
    source: str = ""

    @wiring.validator
    def _check_wiring(self, attribute: Any, value: str) -> None:
        if value not in WIRINGS:
            raise ArgumentError(f"BlockSpec: got the wiring {value!r}, needs one of {', '.join(map(repr, WIRINGS))}")

    def paths(self) -> tuple[str, ...]:
        """Every path that must exist in a layer of this kind."""
        single = (self.mixer, self.projection, self.network, self.bypass, self.branch, self.inner, self.source)
        return tuple(path for path in (*single, *self.readers, *self.last) if path)


@attrs.frozen(kw_only=True)
class FamilySpec:
    """Models that are wired alike, as a plugin announces them from its `ctxblocks_families` hook.

    Attributes:
        name: of the family, in lower case with hyphens.
        models: the model types that it covers, such as `"llama"`; each belongs to one family.
        layers: path of the list of layers in the model, such as `"model.layers"`.
        blocks: the kinds of layers that occur, the more particular first: a layer is of the first whose paths it has.
    """

    name: str
    models: tuple[str, ...] = attrs.field(converter=_paths)
    layers: str
    blocks: tuple[BlockSpec, ...]

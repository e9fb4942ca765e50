"""How a model library wires its blocks, as data: the mixer, the network with its input projections, and the residual stream."""

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
"""Every wiring by its name; `h` is the input of a layer, `N` any norm, or none."""


def _paths(paths: Iterable[str]) -> tuple[str, ...]:
    return (paths,) if isinstance(paths, str) else tuple(paths)


@attrs.frozen(kw_only=True)
class BlockSpec:
    """How one kind of layer is wired. All paths are relative to the layer.

    Attributes:
        wiring: a key of `WIRINGS`.
        mixer: the module that mixes tokens, such as `"self_attn"`; "" where there is none.
        projection: the output projection of the mixer, the second site; "" where it has none.
        network: the module whose first argument is `z`; "" where there is none.
        readers: the input projections, which map `z` linearly: modules with a `weight`, or parameters that hold the experts
            of a mixture.
        last: the last dense layers of the network, of the same kinds.
        bypass: the module whose first argument is the residual stream `r`; "" where `r` is `z` itself.
        branch: the norm of the network's output, before it is added; "" where there is none.
        inner: the module to whose output the bias shift is added, inside the last norm of `"post-norm"`; "" for the output
            of the layer.
        scale: an attribute of the layer that multiplies both branches, such as `"residual_multiplier"`.
        gain: an attribute of the layer that multiplies `r` where the network's output is added, one number or one for
            each channel; "" where `r` is added as it is.
        source: the module whose output is `z`, where `z` is the input of more modules than `network`; "" otherwise.
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
    """Models with the same wiring, as a plugin announces them from its `ctxblocks_families` hook.

    Attributes:
        name: of the family, in lower case with hyphens.
        models: the model types of the family, such as `"llama"`; each belongs to one family.
        layers: path of the list of layers in the model, such as `"model.layers"`.
        blocks: the kinds of layers that occur, more specific ones first: a layer is of the first kind whose paths it has.
    """

    name: str
    models: tuple[str, ...] = attrs.field(converter=_paths)
    layers: str
    blocks: tuple[BlockSpec, ...]

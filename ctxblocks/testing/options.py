"""The layers under test, from the options of a pytest run."""

import warnings
from collections.abc import Sequence

import attrs
import pytest
import torch

from ctxblocks.base.errors import CtxblocksError
from ctxblocks.base.messages import describe, listed
from ctxblocks.exactness.dtypes import DTYPES, MISSING
from ctxblocks.registration.registry import registry
from ctxblocks.registration.specs import LayerSpec
from ctxblocks.testing.cases import Case, Conformance


@attrs.frozen(kw_only=True)
class Request:
    """The options of a pytest run, and the conformances made from them so far.

    Attributes:
        layers: names of layers; none means all registered ones.
        device: "auto", "cpu" or "cuda".
        dtypes: names of dtypes; none means all that the device supports for the layer.
        max_examples: cases for each property.
    """

    layers: tuple[str, ...] = attrs.field(converter=tuple)
    device: str
    dtypes: tuple[str, ...] = attrs.field(converter=tuple)
    max_examples: int
    _conformances: dict[str, Conformance] = attrs.field(factory=dict, init=False)

    def conformances(self) -> tuple[Conformance, ...]:
        """The requested layers with their devices and dtypes, including layers registered since the last call.

        Raises:
            pytest.UsageError: a layer is unknown or its plugin failed, all layers are requested and some plugin failed, or
                the device is absent.
        """
        device = _device(self.device)
        specs = _specs(self.layers)
        for spec in specs:
            if spec.name not in self._conformances:
                dtypes = tuple(DTYPES[name] for name in dict.fromkeys(self.dtypes)) or _supported(spec, device)
                self._conformances[spec.name] = Conformance(
                    spec=spec, device=device, dtypes=dtypes, max_examples=self.max_examples
                )
        return tuple(self._conformances[spec.name] for spec in specs)


def _specs(names: Sequence[str]) -> list[LayerSpec]:
    try:
        known = registry()
        if names:
            return [known.layer(name) for name in dict.fromkeys(names)]
    except CtxblocksError as error:
        raise pytest.UsageError(f"--ctx-layer: {error}") from error
    broken = [f"plugin {name!r} failed with {describe(error)}" for name, error in known.failures.items()]
    broken += [f"layer {name!r} is provided by {listed(plugins)}" for name, plugins in known.clashes.items()]
    if broken:
        raise pytest.UsageError(
            f"conformance suite: all layers are requested, and {'; '.join(broken)}; fix that, or name layers with "
            f"--ctx-layer: {listed(known.layers)}"
        )
    return list(known.layers.values())


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError(
            "--ctx-device: got 'cuda', needs a GPU that torch can use, and there is none; use --ctx-device cpu"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _supported(spec: LayerSpec, device: torch.device) -> tuple[torch.dtype, ...]:
    """All dtypes; float16 is left out with a warning if the device lacks an operation that the layer needs in it."""
    for config in spec.examples:
        case = Case(spec=spec, config=config, dtype=torch.float16, device=device, batch=(2,), tokens=2, seed=0)
        try:
            case.layer(case.query.requires_grad_(), case.context).sum().backward()
        except Exception as error:  # other errors are left to the properties
            if f"{MISSING}Half'" in str(error):
                warnings.warn(f"layer {spec.name!r}: float16 is left out on {device}: {error}", stacklevel=2)
                return tuple(dtype for dtype in DTYPES.values() if dtype != torch.float16)
    return tuple(DTYPES.values())

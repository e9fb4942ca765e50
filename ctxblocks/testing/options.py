"""From the options of a run to the layers under test."""

import warnings
from collections.abc import Sequence

import attrs
import pytest
import torch

from ctxblocks.base.errors import CtxblocksError
from ctxblocks.base.messages import describe, listed
from ctxblocks.registration.registry import registry
from ctxblocks.registration.specs import LayerSpec
from ctxblocks.testing.cases import DTYPES, Case, Conformance

MISSING = "not implemented for 'Half'"  # how torch says that a device lacks an operation in float16


@attrs.frozen(kw_only=True)
class Request:
    """The options of a run, and what they came to so far.

    Attributes:
        layers: names; none means all that are registered.
        device: "auto", "cpu" or "cuda".
        dtypes: names; none means all that the layer has the operations for.
        max_examples: for each property.
    """

    layers: tuple[str, ...] = attrs.field(converter=tuple)
    device: str
    dtypes: tuple[str, ...] = attrs.field(converter=tuple)
    max_examples: int
    _found: dict[str, Conformance] = attrs.field(factory=dict, init=False)

    def conformances(self) -> tuple[Conformance, ...]:
        """The layers asked for, each with its device and dtypes; a layer registered since the last call counts.

        Raises:
            pytest.UsageError: a layer is unknown or its plugin failed, all are asked for and some plugin failed, or the
                device is absent.
        """
        device = _device(self.device)
        specs = _specs(self.layers)
        for spec in specs:
            if spec.name not in self._found:
                dtypes = tuple(DTYPES[name] for name in dict.fromkeys(self.dtypes)) or _supported(spec, device)
                self._found[spec.name] = Conformance(
                    spec=spec, device=device, dtypes=dtypes, max_examples=self.max_examples
                )
        return tuple(self._found[spec.name] for spec in specs)


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
            f"conformance suite: all layers are asked for, and {'; '.join(broken)}; mend that, or name layers with "
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
    """All dtypes, without float16 where the device lacks an operation that the layer needs; a warning says so."""
    for config in spec.examples:
        case = Case(spec=spec, config=config, dtype=torch.float16, device=device, batch=(2,), tokens=2, seed=0)
        try:
            case.layer(case.query.requires_grad_(), case.context).sum().backward()
        except Exception as error:  # anything else is for the properties to find
            if MISSING in str(error):
                warnings.warn(f"layer {spec.name!r}: float16 is left out on {device}: {error}", stacklevel=2)
                return tuple(dtype for dtype in DTYPES.values() if dtype != torch.float16)
    return tuple(DTYPES.values())

"""An update in place in a model: what the model may be called with meanwhile, and the differences measured in its calls."""

import contextlib
import dataclasses
import threading
import weakref
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ctxblocks import ArgumentError, ShapeError
from ctxblocks_transformers.updates.runs import CACHES
from ctxblocks_transformers.wiring.calling import inputs_of
from ctxblocks_transformers.wiring.difference import Difference, refuse_inert
from ctxblocks_transformers.wiring.reads import outputs_of

_applied: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()
_lock = threading.Lock()
ONCE = "an update is exact for the tokens and positions that it was made for"


class Applied(Protocol):
    """The part of `ModelUpdate` that this module uses."""

    @property
    def input_ids(self) -> Tensor:
        """`(1, T)`, the whole prompt."""

    @property
    def positions(self) -> Tensor:
        """`(tokens,)`, the positions of the remaining tokens in the prompt."""

    @property
    def query(self) -> int:
        """The index in `positions` of the token whose output was measured."""

    def difference(self, output: Tensor) -> Difference:
        """Distances of an output from those with the full context and without an update."""


@dataclasses.dataclass(frozen=True)
class Application:
    """The calls of a model while an update was in place.

    Attributes:
        update: the update.
        differences: the differences measured in each call that returned the query's output.
        thread: the thread that put the update in place.
    """

    update: Applied
    differences: list[Difference]
    thread: int = dataclasses.field(default_factory=threading.get_ident)

    def arguments(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The arguments of a call with the positions filled in, after a check that the update was made for this call.

        Raises:
            ArgumentError: another thread calls the model, or it is called on other tokens, at other positions, or with a
                cache that holds tokens.
            ShapeError: it is called on another number of tokens.
        """
        update = self.update
        if threading.get_ident() != self.thread:
            raise ArgumentError(
                "model: called by another thread while an update is in place, needs the thread that applied it; give each "
                "thread a model of its own, such as copy.deepcopy(model)"
            )
        ids = args[0] if args else kwargs.get("input_ids")
        cached = [name for name in CACHES if _holds_tokens(kwargs.get(name))]
        if cached:
            raise ArgumentError(
                f"{cached[0]}: got a cache that holds tokens, needs none, since {ONCE}, and the next token needs another one; "
                f"to generate without the prompt use replay(model, prompt, …)"
            )
        if not isinstance(ids, Tensor) or tuple(ids.shape) != (1, len(update.positions)):
            got = None if ids is None else tuple(ids.shape)
            raise ShapeError(
                f"input_ids: got shape {got}, needs (1, {len(update.positions)}), the remaining tokens; "
                f"call model(**update.inputs(model))"
            )
        self._check_tokens(ids)
        given = {**inputs_of(model, ids, update.positions), **kwargs}
        expected = inputs_of(model, ids, update.positions).get("position_ids")
        got_positions = given.get("position_ids")
        if expected is not None and got_positions is not None and not _same(got_positions, expected):
            raise ArgumentError(
                f"position_ids: got {got_positions.flatten().tolist()}, needs {expected.flatten().tolist()}, since {ONCE}; "
                f"leave them out, or use replay(model, prompt, …) for a generation"
            )
        if args:
            del given["input_ids"]
        return args, given

    def measure(self, result: Any) -> None:
        """Compare one output, and refuse an update without effect; outputs of the last tokens alone may lack the query's."""
        output = outputs_of(result)
        row = self.update.query - (len(self.update.positions) - len(output))
        if not 0 <= row < len(output):
            return
        difference = self.update.difference(output[row])
        self.differences.append(difference)
        refuse_inert(difference)

    def _check_tokens(self, ids: Tensor) -> None:
        wanted = self.update.input_ids[0, self.update.positions.to(self.update.input_ids.device)]
        if not _same(ids[0], wanted):
            raise ArgumentError(
                f"input_ids: got tokens {ids[0].tolist()}, needs {wanted.tolist()}, since {ONCE}; make an update for these, or "
                f"use replay(model, prompt, …) to generate without the prompt"
            )


@contextlib.contextmanager
def only_update(model: nn.Module) -> Iterator[None]:
    """Hold a model for one update at a time.

    Raises:
        ArgumentError: another update is in place.
    """
    with _lock:
        if model in _applied:
            raise ArgumentError(
                "model: another update is in place, needs one at a time, since the second was not made with the first; leave "
                "the first with-block before, or make one update that stands for both parts of the prompt"
            )
        _applied.add(model)
    try:
        yield
    finally:
        with _lock:
            _applied.discard(model)


def _holds_tokens(cache: Any) -> bool:
    if cache is None:
        return False
    length = getattr(cache, "get_seq_length", None)
    return bool(length()) if callable(length) else True


def _same(some: Tensor, others: Tensor) -> bool:
    return some.numel() == others.numel() and bool(
        torch.equal(some.flatten().cpu(), others.flatten().cpu().to(some.dtype))
    )

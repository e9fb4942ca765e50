"""What a prompt does to a model's weights: one update for every block and every token that stays."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from ctxblocks import ArgumentError, FamilySpec, ImplicitUpdate, ShapeError
from ctxblocks_transformers.updates.derive import on, patched, shift_rows, shifted
from ctxblocks_transformers.updates.difference import Difference, difference, refuse_inert
from ctxblocks_transformers.updates.states import states_kept
from ctxblocks_transformers.wiring.checks import accepted, first_position
from ctxblocks_transformers.wiring.hooks import Hooks
from ctxblocks_transformers.wiring.reads import SiteView, outputs_of
from ctxblocks_transformers.wiring.view import ModelView, view_of


@dataclasses.dataclass(frozen=True, eq=False)
class ModelUpdate:
    """The updates of all blocks of a model that stand for a removed context [Thm. 2.2, Thm. B.2, block by block].

    Attributes:
        updates: for every block `(tokens, d)`, the query last; None for a block that reads no other token.
        sites: where each goes: `"network"`, `"out-proj"`, or "" for none.
        family: how the model is wired.
        input_ids: `(1, T)`, the whole prompt.
        positions: `(tokens,)`, those that stay.
        query: the row among them whose output was measured.
        full: the query's output with the full context `(vocabulary or d,)`.
        plain: its output with the tokens that stay and no update.
        found: its output in the run in which the updates were measured.
        model_type: of the model's configuration.
        dtype: the model's.
        model_name: where the model was loaded from, "" for nowhere.
    """

    updates: tuple[ImplicitUpdate | None, ...]
    sites: tuple[str, ...]
    family: FamilySpec
    input_ids: Tensor
    positions: Tensor
    query: int
    full: Tensor
    plain: Tensor
    found: Tensor
    model_type: str
    dtype: torch.dtype
    model_name: str = ""

    @property
    def report(self) -> Difference:
        """The differences measured when the update was made."""
        return self.difference(self.found)

    def difference(
        self,
        output: Tensor,  # (tokens, vocabulary or d), or the query's alone
    ) -> Difference:
        """How far an output of the patched model is from the two that it lies between."""
        return difference(output[self.query] if output.dim() == 2 else output, self.full, self.plain)

    def inputs(self, model: Any) -> dict[str, Tensor]:
        """What to call a model with: the tokens that stay, at their positions in the prompt."""
        device = model.get_input_embeddings().weight.device
        return inputs_of(model, self.input_ids[:, self.positions].to(device), self.positions)

    @contextlib.contextmanager
    def applied(self, model: Any) -> Iterator["Application"]:
        """The user's model with the update in place; afterwards it is as it was.

        Call it on the tokens that stay, `model(**update.inputs(model))`, or `model(input_ids)`, which fills in their
        positions. What it yields holds the measured differences of every call.

        Raises:
            ArgumentError: the model is wired otherwise than the one that the update was made with.
            ShapeError: the model is called on another number of tokens.
            InertUpdateError: the update changed nothing although the context does.
        """
        view = self.view(model)
        done = Application(self, [])
        with Hooks() as hooks, evaluation(model):
            hooks.arguments(model, lambda args, kwargs: self._positioned(model, args, kwargs))
            for block, site, update in zip(view.blocks, self.sites, self.updates, strict=True):
                if update is not None:
                    put(hooks, SiteView(block, site), update)
            hooks.result(model, done.measure)
            yield done

    def merged(self, model: Any, place: Literal["output-bias", "last-layer"] = "output-bias") -> Any:
        """A copy of the model with the update of the one token that stays in its weights, in evaluation mode.

        Every reader gets `W ← W + (Wδ) kᵀ` [Eq. 1], formed in float32 for half types and rounded once; the shift `Δb'`
        goes into a bias, which is made where there is none, or onto a module's output where no bias is right (experts, a
        norm behind the network). Call it on that token, `merged(**update.inputs(merged))`, or `merged(input_ids)`, which
        fills in its position.

        Args:
            model: the one that the update was made with; it is left as it was.
            place: `"last-layer"` puts the shift into the last dense layer, `ΔW_down = Δb' uᵀ/‖u‖²`: nothing but
                parameters that the model has changes, so that `save_pretrained` keeps all of it.

        Raises:
            ShapeError: several tokens stay.
            ArgumentError: the model is another, blocks share a matrix, a reader that needs a bias can take none, the last
                layer cannot carry the shift, or the merged model's output is not that with the full context.
            InertUpdateError: the merged model answers as the untouched one.
        """
        from ctxblocks_transformers.export.merge import merge

        return merge(self, model, place)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the update to one safetensors file, whole or not at all.

        Raises:
            ArgumentError: the folder is not there or cannot be written.
        """
        from ctxblocks_transformers.export.store import save

        save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ModelUpdate":
        """Read an update that `save` wrote, bit by bit the same; its tensors are on the CPU and follow the model.

        Raises:
            ArgumentError: the file is damaged, something else, or of another version.
        """
        from ctxblocks_transformers.export.store import load

        return load(path)

    def to_peft(self, folder: str | os.PathLike[str], model: Any) -> Difference:
        """Write the update of the one token that stays as a LoRA adapter of rank 1 that PEFT loads.

        The shift is folded into the last dense layers, of a mixture into those of its active experts. The adapter is
        loaded by PEFT onto a copy of the model and compared with the full context before the folder appears.

        Args:
            folder: a new or empty one.
            model: the one that the update was made with; it is left as it was.

        Returns:
            The differences measured with the adapter loaded.

        Raises:
            ShapeError: several tokens stay.
            ArgumentError: the update has an offset, a block's shift cannot be folded, PEFT refuses the model, the folder
                holds files, or the adapter does not give the output with the full context.
            InertUpdateError: the model answers as without the adapter.
            CtxblocksError: peft is not installed.
        """
        from ctxblocks_transformers.export.peft import export

        return export(self, folder, model)

    def view(self, model: Any) -> ModelView:
        """The model as the update sees it.

        Raises:
            ArgumentError: it has other blocks.
        """
        view = view_of(model, self.family)
        if model.config.model_type != self.model_type or len(view.blocks) != len(self.updates):
            raise ArgumentError(
                f"model: got {model.config.model_type!r} with {len(view.blocks)} layers, needs {self.model_type!r} with "
                f"{len(self.updates)}, the model that the update was made with"
            )
        return view

    def _positioned(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ids = args[0] if args else kwargs.get("input_ids")
        if ids is None or tuple(ids.shape) != (1, len(self.positions)):
            got = None if ids is None else tuple(ids.shape)
            raise ShapeError(
                f"input_ids: got shape {got}, needs (1, {len(self.positions)}), the tokens that stay; "
                f"call model(**update.inputs(model))"
            )
        given = {**inputs_of(model, ids, self.positions), **kwargs}
        if args:
            del given["input_ids"]
        return args, given


@dataclasses.dataclass(frozen=True)
class Application:
    """The calls of a model while an update was in place.

    Attributes:
        update: the update.
        differences: one for each call.
    """

    update: ModelUpdate
    differences: list[Difference]

    def measure(self, result: Any) -> None:
        """Compare one output, and refuse an update that did nothing."""
        found = self.update.difference(outputs_of(result))
        self.differences.append(found)
        refuse_inert(found)


def put(hooks: Hooks, site: SiteView, update: ImplicitUpdate) -> None:
    """One block's update, in place for as long as the hooks are."""
    if site.block.spec.wiring != "parallel" or site.site != "network":
        site.at_entry(hooks, lambda x: patched(x, on(x.device, update).operator))
    if update.shift is not None:
        hooks.after(shifted(site), lambda x: shift_rows(x, on(x.device, update).shift))


@contextlib.contextmanager
def evaluation(model: Any) -> Iterator[None]:
    """Evaluation mode and no states in modules; afterwards every module's own."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with states_kept(model):
            yield
    finally:
        for module in training:
            module.training = True


def inputs_of(model: Any, input_ids: Tensor, positions: Tensor) -> dict[str, Any]:
    """Tokens at their positions: with a mask of ones, since a gap in the positions would be read as two sequences."""
    names, device = accepted(model), input_ids.device
    found: dict[str, Any] = {"input_ids": input_ids}
    if "attention_mask" in names:
        found["attention_mask"] = torch.ones_like(input_ids)
    if "position_ids" in names:
        found["position_ids"] = (positions.to(device) + first_position(model)).expand(input_ids.shape)
    if "use_cache" in names:
        found["use_cache"] = False
    return found

"""The update of a model: one implicit update for every block and every remaining token."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from ctxblocks import ArgumentError, FamilySpec, ImplicitUpdate
from ctxblocks_transformers.export import merge, peft, store
from ctxblocks_transformers.updates.application import Application, only_update
from ctxblocks_transformers.wiring.calling import evaluation, input_device, inputs_of
from ctxblocks_transformers.wiring.difference import Difference, difference_of
from ctxblocks_transformers.wiring.fingerprint import fingerprint
from ctxblocks_transformers.wiring.keep import Kept
from ctxblocks_transformers.wiring.sites import Hooks, Site
from ctxblocks_transformers.wiring.view import ModelView, view_of
from ctxblocks_transformers.wiring.wirings import site_of


@dataclasses.dataclass(frozen=True, eq=False)
class ModelUpdate:
    """The updates of all blocks of a model that stand for a removed context [Thm. 2.2, Thm. B.2, block by block].

    Attributes:
        updates: for every block `(tokens, d)`; None for a block that reads no other token.
        sites: the site of each: `"network"`, `"out-proj"`, or "" for none.
        family: the family whose wiring the model follows.
        input_ids: `(1, T)`, the whole prompt.
        positions: `(tokens,)`, the positions of the remaining tokens in the prompt.
        query: the index in `positions` of the token whose output was measured.
        full: the query's output with the full context `(vocabulary or d,)`.
        plain: its output on the remaining tokens without an update.
        found: its output in the pass in which the updates were measured.
        model_type: the model type of the configuration.
        dtype: the model's.
        model_name: name or folder from which the model was loaded, "" if there is none.
        kept_reason: why tokens besides the query remain, in words, "" where none does.
        weights: the fingerprint of the model's weights, "" in files that were written without.
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
    kept_reason: str = ""
    weights: str = ""

    @property
    def kept(self) -> Kept:
        """The tokens that remain besides the query, and why."""
        others = tuple(int(i) for row, i in enumerate(self.positions) if row != self.query)
        return Kept(others, self.kept_reason)

    @property
    def report(self) -> Difference:
        """The differences measured when the update was made."""
        return self.difference(self.found)

    def difference(
        self,
        output: Tensor,  # (tokens, vocabulary or d), or the query's alone
    ) -> Difference:
        """Distances of an output of the updated model from those with the full context and without an update."""
        return difference_of(output[self.query] if output.dim() == 2 else output, self.full, self.plain)

    def inputs(self, model: Any) -> dict[str, Any]:
        """The arguments with which to call a model on the remaining tokens, at their positions in the prompt."""
        ids = self.input_ids[:, self.positions.to(self.input_ids.device)]
        return inputs_of(model, ids.to(input_device(model)), self.positions)

    @contextlib.contextmanager
    def applied(self, model: Any) -> Iterator["Application"]:
        """Put the update in place in a model; on exit the model is as it was.

        Call the model on the remaining tokens, `model(**update.inputs(model))`, or `model(input_ids)`, which fills in
        their positions. The object yielded collects the measured differences of every call. The update is exact for these
        tokens alone: a generation, whose next token needs another update, is `replay`.

        Raises:
            ArgumentError: the model has other blocks or other weights than the one that the update was made with, another
                update is in place, or the model is called on other tokens, at other positions, with a cache that holds
                tokens, or by another thread.
            ShapeError: the model is called on another number of tokens.
            InertUpdateError: the update changed nothing although the context has an effect.
        """
        placed = self.placed(model)
        application = Application(self, [])
        with only_update(model), Hooks() as hooks, evaluation(model):
            hooks.arguments(model, lambda args, kwargs: application.arguments(model, args, kwargs))
            for site, update in placed:
                site.put(hooks, update)
            hooks.result(model, application.measure)
            yield application

    def merged(self, model: Any, place: Literal["output-bias", "last-layer"] | None = None) -> Any:
        """A copy of the model, in evaluation mode, with the update in its weights, for the remaining tokens alone.

        Every reader becomes `W + (Wδ) kᵀ` [Eq. 1], with kept tokens `W + WΔᵀ(Z⁺)ᵀ`, which leaves them as they are;
        formed in float32 for half types and rounded once. The bias shift `Δb'`
        is added to a bias, which is created where there is none, or by a hook to a module's output where no bias is
        equivalent (experts, a norm after the network). Call the copy on the remaining tokens,
        `merged(**update.inputs(merged))`, or
        `merged(input_ids)`, which fills in their positions; other calls are refused.

        Args:
            model: the model that the update was made with; it is not changed.
            place: `"last-layer"` puts the bias shift into the last dense layer, `ΔW_down = Δb' uᵀ/‖u‖²`: only existing
                parameters change, so that `save_pretrained` saves the whole update. The default with kept tokens, since
                a bias
                shifts every token; otherwise it is `"output-bias"`.

        Warns:
            OneQueryWarning: always: the weights are for one query at one position.

        Raises:
            ArgumentError: the model is another one, is quantised or cannot be copied, blocks share a matrix, a reader
                that needs a bias can have none, the last
                layer cannot take the bias shift, or the output of the copy is not that with the full context (in half
                types a few
                times the error of `applied`, and the same largest logit).
            InertUpdateError: the output of the copy is that of the original model.
        """
        return merge.merge(self, model, place)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the update to one safetensors file, completely or not at all.

        Raises:
            ArgumentError: the folder does not exist or cannot be written.
        """
        store.save(path, {field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "ModelUpdate":
        """Read an update that `save` wrote, bit by bit the same; its tensors are on the CPU and move to the model's device.

        Raises:
            ArgumentError: the file is damaged, of another format, or of another version.
        """
        return cls(**store.load(path))

    def to_peft(self, folder: str | os.PathLike[str], model: Any) -> Difference:
        """Write the update as a LoRA adapter that PEFT loads, of rank 1, or with kept tokens one for each that changes.

        The bias shift is written into the last dense layers, of a mixture into those of its active experts. Before the
        folder appears, PEFT loads the adapter onto a copy of the model, whose output is compared with that of the full
        context. Its card, `README.md`, says for which token and position it is, and what was measured.

        Args:
            folder: a new or empty folder.
            model: the model that the update was made with; it is not changed.

        Returns:
            The differences measured with the adapter loaded.

        Raises:
            ArgumentError: the model is quantised or cannot be copied, the update has an offset, a bias shift cannot be
                written into a last layer, PEFT refuses the model,
                the folder contains files, or the adapter does not give the output with the full context.
            InertUpdateError: the output with the adapter is that without it.
            CtxblocksError: peft is not installed.
        """
        return peft.export(self, folder, model)

    def placed(self, model: Any) -> list[tuple[Site, ImplicitUpdate]]:
        """The sites of a model that take an update, each with its update.

        Raises:
            ArgumentError: the model has other blocks.
        """
        blocks = zip(self.view(model).blocks, self.sites, self.updates, strict=True)
        return [(site_of(block, site), update) for block, site, update in blocks if update is not None]

    def view(self, model: Any) -> ModelView:
        """The layers of a model with the wiring of the update's family.

        Raises:
            ArgumentError: the model has other blocks or other weights.
        """
        view = view_of(model, self.family)
        if model.config.model_type != self.model_type or len(view.blocks) != len(self.updates):
            raise ArgumentError(
                f"model: got {model.config.model_type!r} with {len(view.blocks)} layers, needs {self.model_type!r} with "
                f"{len(self.updates)}, the model that the update was made with"
            )
        if self.weights and self.weights != fingerprint(model):
            raise ArgumentError(
                "model: got other weights than those that the update was made with, needs that model; make the update again "
                "with transfer_model"
            )
        return view

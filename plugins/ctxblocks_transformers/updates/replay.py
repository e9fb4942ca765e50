"""Generation without the prompt: a model that reads its response alone, one update for every token [Cor. 2.6.1]."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ctxblocks import ArgumentError, FamilySpec, ImplicitUpdate, LeastNorm, Solver
from ctxblocks_transformers.updates.course import monitor
from ctxblocks_transformers.updates.derive import derive, joined
from ctxblocks_transformers.updates.difference import Difference, difference, refuse_inert
from ctxblocks_transformers.updates.model_update import evaluation, put
from ctxblocks_transformers.updates.runs import Route, Run, route_of
from ctxblocks_transformers.updates.transfer import check_site, check_start, solvers_of, some
from ctxblocks_transformers.wiring.checks import check_model, check_room, check_tokens
from ctxblocks_transformers.wiring.family import family_of
from ctxblocks_transformers.wiring.hooks import Hooks, rows
from ctxblocks_transformers.wiring.reads import BlockReads, SiteView, observe, sites_of
from ctxblocks_transformers.wiring.view import ModelView, view_of

NEWEST = torch.tensor([-1])


@dataclasses.dataclass(frozen=True, eq=False)
class Replay:
    """A response generated twice: with the prompt, and from updates without it.

    Attributes:
        input_ids: `(1, T)`, the prompt.
        tokens: `(steps,)`, what the model with the prompt generates greedily; both runs go on with these.
        replayed: `(steps,)`, what the run without the prompt says in their place.
        plain: `(steps,)`, what a third run says, without the prompt and without updates.
        differences: for each step how far the replayed logits are from those with the prompt and from the plain ones.
        updates: for every block `(steps, d)`, one update for each token that is read: the prompt's last, then the response;
            None for a block that reads no other token.
        view: the model, and how it is wired.
        sites: of the updates, block by block.
        route: `"cache"` where both runs keep earlier tokens in the model's own cache; `"recompute"` where the model has
            none that serves, and each token that stays is computed again at every step, with the update it got.
    """

    input_ids: Tensor
    tokens: Tensor
    replayed: Tensor
    plain: Tensor
    differences: tuple[Difference, ...]
    updates: tuple[ImplicitUpdate | None, ...]
    view: ModelView
    sites: tuple[SiteView, ...]
    route: Route

    @property
    def agreement(self) -> float:
        """The share of tokens that are the same with the prompt and without it."""
        return float((self.tokens == self.replayed).double().mean())

    @property
    def plain_agreement(self) -> float:
        """The same share for the run without updates: what would agree anyhow."""
        return float((self.tokens == self.plain).double().mean())

    @property
    def first_mismatch(self) -> int | None:
        """The first step with another token, None where there is none."""
        found = (self.tokens != self.replayed).nonzero()
        return int(found[0]) if len(found) else None

    @property
    def relative(self) -> float:
        """The largest difference of logits, relative to the largest logit of its step."""
        return max(each.relative for each in self.differences)

    def monitor(self, probe_names: Sequence[str] | None = None) -> dict[str, Tensor]:  # (blocks, steps) each
        """Measurements of the updates along the generation, by the registered probes of these names or by all.

        Raises:
            ArgumentError: no probe has that name, or one measured something else than a number for each step.
            PluginError: two plugins provide it.
        """
        return monitor(self.sites, self.updates, len(self.tokens), probe_names)

    def play(self) -> Tensor:  # (steps,)
        """Generate from the stored updates alone: the model reads the prompt's last token, then its own response.

        Nothing of the run with the prompt is used. A token other than that run's goes on from there, with updates that
        were made for another, so that what follows may differ.
        """
        model, last = self.view.model, self.input_ids.shape[1] - 1
        run, ids, said = Run(model, self.route), self.input_ids[:, -1:], []
        with evaluation(model), torch.no_grad():
            for step in range(len(self.tokens)):
                first = 0 if self.route == "recompute" else step
                with Hooks() as hooks:
                    for site, update in zip(self.sites, self.updates, strict=True):
                        if update is not None:
                            put(hooks, site, update[first : step + 1])
                    logits = run.call(ids, torch.tensor([last + step]))[-1]
                ids = logits.argmax().reshape(1, 1)
                said.append(ids[0])
        return torch.cat(said)


def replay(
    model: Any,
    input_ids: Tensor,  # (1, T)
    max_new_tokens: int,
    *,
    site: Literal["network", "out-proj"] = "network",
    solver: Solver | Sequence[Solver] = LeastNorm(),
    family: FamilySpec | None = None,
    eos_token_id: int | None = None,
    check: bool = True,
) -> Replay:
    """Generate greedily, beside a run that reads only the prompt's last token and the response, one update for each token.

    At every step the newest token's reads are observed in the full run and measured in the reduced one, block behind
    patched block. A token's update is measured once: later steps read its keys, values or state as the update left them.
    Both runs go on with the full run's token, so that a tie that flips in low precision counts once. A third run, without
    prompt and updates, says what the updates are needed for.

    Args:
        model: a causal language model of transformers; it is left as it was.
        input_ids: the prompt.
        max_new_tokens: the length of the response.
        site, solver, family: see `transfer_model`.
        eos_token_id: the token behind which to stop; by default none.
        check: whether to look for NaN in the weights.

    Raises:
        ArgumentError: `max_new_tokens` is below 1, the model has no logits or is not causal, or as in `transfer_model`.
        ShapeError: the model has too few positions for prompt and response, or as in `transfer_model`.
        DegenerateQueryError: a block reads zero without context; `Augmented()` has an update there.
        InertUpdateError: the updates of a step change nothing although the prompt does.
    """
    check_model(model, check)
    check_tokens(model, input_ids)
    check_site(site)
    if max_new_tokens < 1:
        raise ArgumentError(f"max_new_tokens: got {max_new_tokens}, needs at least 1")
    check_room(model, input_ids.shape[1], max_new_tokens - 1)
    with evaluation(model), torch.no_grad():
        view = view_of(model, family_of(model) if family is None else family)
        sites = sites_of(view, site)
        return _Pair(view, sites, solvers_of(solver, len(sites)), route_of(model)).generate(
            input_ids, max_new_tokens, eos_token_id
        )


class _Pair:
    """The run with the prompt and the one without it, side by side."""

    def __init__(self, view: ModelView, sites: tuple[SiteView, ...], solvers: list[Solver], route: Route) -> None:
        self.view, self.sites, self.solvers = view, sites, solvers
        self.full, self.reduced, self.plain = (Run(view.model, route) for _ in range(3))
        self.updates: list[list[ImplicitUpdate | None]] = []

    def generate(self, input_ids: Tensor, steps: int, eos: int | None) -> Replay:
        """Step by step: the full run's newest reads, and the reduced run patched to them."""
        length, given = input_ids.shape[1], input_ids
        said: list[list[Tensor]] = []
        differences: list[Difference] = []
        for step in range(steps):
            last, newest = torch.tensor([length + step - 1]), given[:, -1:]
            reads, wanted = self._observed(given, torch.arange(length + step - given.shape[1], length + step))
            found, plain = self._patched(newest, last, reads), self.plain.call(newest, last)[-1]
            said.append([logits.argmax() for logits in (wanted, found, plain)])
            differences.append(difference(found, wanted, plain))
            refuse_inert(differences[-1])
            given = said[-1][0].reshape(1, 1)
            if eos is not None and int(given) == eos:
                break
        tokens, replayed, untouched = (torch.stack(each).cpu() for each in zip(*said, strict=True))
        return Replay(
            input_ids=input_ids,
            tokens=tokens,
            replayed=replayed,
            plain=untouched,
            differences=tuple(differences),
            updates=self._all(),
            view=self.view,
            sites=self.sites,
            route=self.full.route,
        )

    def _observed(self, ids: Tensor, positions: Tensor) -> tuple[list[BlockReads], Tensor]:
        """What every block of the full run reads of the newest token, and that token's logits."""
        with Hooks() as hooks:
            reads, output = observe(self.view, self.sites, self.full.add(hooks, ids, positions))
        return [some(each, NEWEST) for each in reads], output[-1]

    def _patched(self, ids: Tensor, positions: Tensor, reads: list[BlockReads]) -> Tensor:  # (vocabulary,)
        """The newest token's logits in the reduced run, in which it is given its updates."""
        known, alone = (self._all() if self.full.route == "recompute" and self.updates else None), BlockReads()

        def entered(x: Tensor) -> None:
            alone.entered = rows(x)[-1:].clone()

        with Hooks() as hooks:
            hooks.before(self.view.blocks[0].layer, entered)
            inputs = self.reduced.add(hooks, ids, positions)
            updates, output = derive(self.view, self.sites, inputs, reads, self.solvers, known)
        check_start(self.view.model, reads[0], alone, torch.tensor([0]))
        self.updates.append(updates)
        return output[-1]

    def _all(self) -> tuple[ImplicitUpdate | None, ...]:
        """The updates of every block, all steps in one."""
        return tuple(
            joined([part for part in parts if part is not None]) if parts[0] is not None else None
            for parts in zip(*self.updates, strict=True)
        )

"""Generation without the prompt: a model that reads only its response, with one update for every token [Cor. 2.6.1]."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ctxblocks import FamilySpec, ImplicitUpdate, LeastNorm, Solver
from ctxblocks.validators import at_least
from ctxblocks_transformers.updates.course import monitor
from ctxblocks_transformers.updates.joining import joined, joined_steps
from ctxblocks_transformers.updates.runs import Route, Run, route_of
from ctxblocks_transformers.updates.transfer import solvers_of
from ctxblocks_transformers.wiring.calling import evaluation
from ctxblocks_transformers.wiring.checks import check_model, check_room
from ctxblocks_transformers.wiring.difference import Difference, difference_of, refuse_inert
from ctxblocks_transformers.wiring.family import family_of
from ctxblocks_transformers.wiring.passes import check_start, complete, observe
from ctxblocks_transformers.wiring.reads import BlockReads
from ctxblocks_transformers.wiring.sites import Hooks, Site, rows
from ctxblocks_transformers.wiring.tokens import Prompt, tokens_of
from ctxblocks_transformers.wiring.view import ModelView, view_of
from ctxblocks_transformers.wiring.wirings import check_site, sites_of

NEWEST = torch.tensor([-1])


@dataclasses.dataclass(frozen=True, eq=False)
class Replay:
    """A response generated twice: with the prompt, and from updates without it.

    Attributes:
        input_ids: `(1, T)`, the prompt.
        tokens: `(steps,)`, generated greedily by the model with the prompt; both runs continue with these.
        replayed: `(steps,)`, the most likely tokens of the run without the prompt.
        plain: `(steps,)`, those of a third run, without the prompt and without updates.
        differences: for each step the distances of the replayed logits from those with the prompt and from the plain ones.
        updates: for every block `(steps, d)`, one update for each input token: the prompt's last, then the response; None
            for a block that reads no other token.
        view: the model and its wiring.
        sites: the sites of the updates, block by block.
        route: `"cache"` if the runs keep earlier tokens in the model's own cache; `"recompute"` if the model has no
            usable cache, so that each remaining token is computed again at every step, with its update.
    """

    input_ids: Tensor
    tokens: Tensor
    replayed: Tensor
    plain: Tensor
    differences: tuple[Difference, ...]
    updates: tuple[ImplicitUpdate | None, ...]
    view: ModelView
    sites: tuple[Site, ...]
    route: Route

    @property
    def agreement(self) -> float:
        """The share of tokens that are the same with and without the prompt."""
        return float((self.tokens == self.replayed).double().mean())

    @property
    def plain_agreement(self) -> float:
        """The same share for the run without updates."""
        return float((self.tokens == self.plain).double().mean())

    @property
    def first_mismatch(self) -> int | None:
        """The first step at which the tokens differ, None if there is none."""
        differ = (self.tokens != self.replayed).nonzero()
        return int(differ[0]) if len(differ) else None

    @property
    def relative(self) -> float:
        """The largest difference of logits, relative to the largest logit of its step."""
        return max(each.relative for each in self.differences)

    def monitor(
        self, probe_names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:  # (blocks, steps), or (blocks, steps - 1) for measures of successive updates
        """Measurements of the updates along the generation, by the registered probes with these names, or by all.

        Raises:
            ArgumentError: no probe has that name, or one did not return one number for each step.
            PluginError: two plugins provide it.
        """
        return monitor(self.sites, self.updates, len(self.tokens), probe_names)

    def play(self) -> Tensor:  # (steps,)
        """Generate from the stored updates alone: the model reads the prompt's last token, then its own response.

        Nothing of the run with the prompt is used. After a token that differs from that run's, the remaining updates are
        applied to tokens that they were not made for, so that the continuation may differ as well.
        """
        model, last = self.view.model, self.input_ids.shape[1] - 1
        run, ids, tokens = Run(model, self.route), self.input_ids[:, -1:], []
        with evaluation(model), torch.no_grad():
            for step in range(len(self.tokens)):
                first = 0 if self.route == "recompute" else step
                with Hooks() as hooks:
                    for site, update in zip(self.sites, self.updates, strict=True):
                        if update is not None:
                            site.put(hooks, update[first : step + 1])
                    logits = run.call(ids, torch.tensor([last + step]))[-1]
                ids = logits.argmax().reshape(1, 1)
                tokens.append(ids[0])
        return torch.cat(tokens)


def replay(
    model: Any,
    input_ids: Prompt,  # (1, T)
    max_new_tokens: int,
    *,
    site: Literal["network", "out-proj"] = "network",
    solver: Solver | Sequence[Solver] = LeastNorm(),
    family: FamilySpec | None = None,
    eos_token_id: int | None = None,
    check: bool = True,
) -> Replay:
    """Generate greedily with the prompt, and in parallel without it, with one update for each token [Cor. 2.6.1].

    The reduced run reads only the prompt's last token and the response. At every step the reads of the newest token are
    recorded in the full run, and in the reduced run each block's update is made and applied in turn. A token's update is
    made once: later steps use its keys, values or state with the update applied. Both runs continue with the full run's
    token, so that a tie that flips in low precision counts once. A third run, without prompt and updates, is the baseline.

    Args:
        model: a causal language model of transformers; it is not changed.
        input_ids: the prompt as tokens: a tensor, a list, or what a tokenizer returns for one text.
        max_new_tokens: the length of the response.
        site, solver, family: see `transfer_model`.
        eos_token_id: the token after which to stop; by default none.
        check: whether to look for NaN in the weights.

    Raises:
        ArgumentError: `max_new_tokens` is below 1, the model has no logits or is not causal, or as in `transfer_model`.
        ShapeError: the model has too few positions for prompt and response, or as in `transfer_model`.
        DegenerateQueryError: a block's input without context is zero; `Augmented()` has an update there.
        InertUpdateError: the updates of a step have no effect although the prompt has.
    """
    check_model(model, check)
    input_ids = tokens_of(model, input_ids)
    check_site(site)
    at_least(1).check("max_new_tokens", max_new_tokens)
    check_room(model, input_ids.shape[1], max_new_tokens - 1)
    with evaluation(model), torch.no_grad():
        view = view_of(model, family_of(model) if family is None else family)
        sites = sites_of(view, site)
        return _Pair(view, sites, solvers_of(solver, len(sites)), route_of(model)).generate(
            input_ids, max_new_tokens, eos_token_id
        )


class _Pair:
    """The run with the prompt and the run without it, step by step, next to the baseline without updates."""

    def __init__(self, view: ModelView, sites: tuple[Site, ...], solvers: list[Solver], route: Route) -> None:
        self.view, self.sites, self.solvers = view, sites, solvers
        self.full, self.reduced, self.plain = (Run(view.model, route) for _ in range(3))
        self.steps: list[list[ImplicitUpdate | None]] = []

    def generate(self, input_ids: Tensor, steps: int, eos: int | None) -> Replay:
        """Step by step: the newest token's reads in the full run, and its updates in the reduced one."""
        length, given = input_ids.shape[1], input_ids
        likeliest: list[list[Tensor]] = []
        differences: list[Difference] = []
        for step in range(steps):
            last, newest = torch.tensor([length + step - 1]), given[:, -1:]
            reads, wanted = self._observed(given, torch.arange(length + step - given.shape[1], length + step))
            replayed, plain = self._updated(newest, last, reads), self.plain.call(newest, last)[-1]
            likeliest.append([logits.argmax() for logits in (wanted, replayed, plain)])
            differences.append(difference_of(replayed, wanted, plain))
            refuse_inert(differences[-1])
            given = likeliest[-1][0].reshape(1, 1)
            if eos is not None and int(given) == eos:
                break
        tokens, again, untouched = (torch.stack(each).cpu() for each in zip(*likeliest, strict=True))
        return Replay(
            input_ids=input_ids,
            tokens=tokens,
            replayed=again,
            plain=untouched,
            differences=tuple(differences),
            updates=joined_steps(self.steps),
            view=self.view,
            sites=self.sites,
            route=self.full.route,
        )

    def _observed(self, ids: Tensor, positions: Tensor) -> tuple[list[BlockReads], Tensor]:
        """Every block's reads of the newest token in the full run, and that token's logits."""
        with Hooks() as hooks:
            reads, output = observe(self.view.model, self.sites, self.full.add(hooks, ids, positions))
        return [each.at(NEWEST) for each in reads], output[-1]

    def _updated(self, ids: Tensor, positions: Tensor, full: list[BlockReads]) -> Tensor:  # (vocabulary,)
        """The newest token's logits in the reduced run, in which its updates are made; recomputed tokens get theirs again."""
        earlier = joined_steps(self.steps) if self.full.route == "recompute" and self.steps else None
        newest: list[ImplicitUpdate | None] = [None] * len(self.sites)
        start = BlockReads()

        def entered(x: Tensor) -> None:
            start.entered = rows(x)[-1:].clone()

        def make(number: int, base: BlockReads) -> ImplicitUpdate:
            update = self.sites[number].update(base.at(NEWEST), full[number], self.solvers[number])
            newest[number], before = update, earlier[number] if earlier else None
            return update if before is None else joined([before, update])

        with Hooks() as hooks:
            hooks.before(self.view.blocks[0].layer, entered)
            output = complete(self.view.model, self.sites, self.reduced.add(hooks, ids, positions), make)
        check_start(self.view.model, full[0], start)
        self.steps.append(newest)
        return output[-1]

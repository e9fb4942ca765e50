"""The network site of every wiring, and the sites of all blocks of a model."""

from collections.abc import Callable

from torch import Tensor

from ctxblocks import ArgumentError, ImplicitUpdate, LinearWeights, Read
from ctxblocks.numerics import widen
from ctxblocks_transformers.wiring.reads import BlockReads
from ctxblocks_transformers.wiring.sites import EVERY, Hooks, NetworkSite, Site, patched, picked, rows, shifted
from ctxblocks_transformers.wiring.view import BlockView, ModelView


class ProjectionSite(Site):
    """The output projection of a block's mixer. Nothing bypasses it."""

    name = "out-proj"

    def watch(self, hooks: Hooks, reads: BlockReads, tokens: slice | Tensor = EVERY) -> None:
        """Record the layer's input and the input of the output projection."""
        super().watch(hooks, reads, tokens)

        def read(x: Tensor) -> None:
            reads.z = picked(x, tokens)

        hooks.before(self.block.modules[self.block.spec.projection], read)

    def complete(self, hooks: Hooks, make: Callable[[BlockReads], ImplicitUpdate]) -> None:
        """Apply the operator to the input of the output projection."""
        hooks.before(
            self.block.modules[self.block.spec.projection],
            lambda x: patched(x, make(BlockReads(z=rows(x))).operator),
        )

    def readers(self) -> dict[str, LinearWeights]:
        """The output projection."""
        return self.block.weights(self.block.spec.projection)

    def formulas(self) -> tuple[str, str]:
        """The weight update in words."""
        return "ΔW = (W δ) kᵀ, δ = y_C − y, k = y / ‖y‖², y the input of the output projection W", "none"


class PreNormSite(NetworkSite):
    """Only a factor lies between the last dense layer and the place of the bias shift."""

    foldable = True

    @property
    def bias_path(self) -> str:
        """The last dense layer, if there is one."""
        last = self.block.spec.last
        return last[0] if len(last) == 1 else ""


class PostNormSite(NetworkSite):
    """The bias shift is added inside the norm that closes the block."""

    foldable = True

    @property
    def bias_path(self) -> str:
        """The module inside the last norm."""
        return self.block.spec.inner

    @property
    def shift_place(self) -> str:
        """Where the bias shift is added, in words."""
        inner = self.block.spec.inner
        return f"the output of {inner}, inside the last norm" if inner else "the layer's output"


class ParallelSite(NetworkSite):
    """The network's input does not depend on other tokens, so that the bias shift carries the whole context.

    The mixer's output serves as the residual stream.
    """

    foldable = True

    def watch(self, hooks: Hooks, reads: BlockReads, tokens: slice | Tensor = EVERY) -> None:
        """Record the layer's input and the mixer's output."""
        Site.watch(self, hooks, reads, tokens)
        self.watch_bypass(hooks, reads, tokens)

    def watch_bypass(self, hooks: Hooks, reads: BlockReads, tokens: slice | Tensor = EVERY) -> None:
        """Record the mixer's output, times the layer's factor."""
        scale = self.block.scale

        def bypass(x: Tensor) -> None:
            reads.bypass = picked(x * scale, tokens)

        hooks.after(self.block.modules[self.block.spec.mixer], bypass)

    def complete(self, hooks: Hooks, make: Callable[[BlockReads], ImplicitUpdate]) -> None:
        """Make the update after the mixer, and add its shift to the layer's output."""
        base = BlockReads()
        made: list[ImplicitUpdate] = []

        def mixed(_: Tensor) -> None:
            made[:] = [make(base)]

        self.watch_bypass(hooks, base)
        hooks.after(self.block.modules[self.block.spec.mixer], mixed)
        hooks.after(self.shift_module, lambda x: shifted(x, made[0].shift))

    def read(self, reads: BlockReads) -> Read:
        """The mixer's output, with an input of the network that does not depend on the context."""
        assert reads.bypass is not None
        bypass = widen(reads.bypass)
        return Read(bypass, bypass, depends=False)

    def changed(self) -> dict[str, LinearWeights]:
        """No weights: the operator is the identity."""
        return {}

    def formulas(self) -> tuple[str, str]:
        """The weight update and the bias shift in words."""
        return "ΔW = 0: the network reads no other token", f"Δb' = mix_C − mix, added to {self.shift_place}"

    @property
    def bias_path(self) -> str:
        """The mixer's output projection."""
        return self.block.spec.projection


NETWORKS: dict[str, type[Site]] = {
    "pre-norm": PreNormSite,
    "sandwich": NetworkSite,
    "branch-norm": NetworkSite,
    "post-norm": PostNormSite,
    "parallel": ParallelSite,
    "mixer-only": ProjectionSite,
    "network-only": Site,
}
"""The site that `site="network"` asks for, by the wiring of the block: the output projection in blocks without a network."""
SITES = ("network", "out-proj")


def check_site(site: str) -> None:
    """Raise unless there is a site of that name.

    Raises:
        ArgumentError: there is none.
    """
    if site not in SITES:
        raise ArgumentError(f"site: got {site!r}, needs 'network' or 'out-proj'")


def site_of(block: BlockView, asked: str) -> Site:
    """The site of a block: the one asked for, where the block has it."""
    if not block.spec.mixer:
        return Site(block)
    return ProjectionSite(block) if asked == ProjectionSite.name else NETWORKS[block.spec.wiring](block)


def sites_of(view: ModelView, asked: str) -> tuple[Site, ...]:
    """The site of every block.

    Raises:
        ArgumentError: a block's mixer has no output projection that could take an update.
    """
    sites = tuple(site_of(block, asked) for block in view.blocks)
    for site in sites:
        if isinstance(site, ProjectionSite) and not site.block.spec.projection:
            raise ArgumentError(
                f"site: got 'out-proj', needs 'network' for {view.model.config.model_type!r}: the mixer of layer "
                f"{site.block.index}, {site.block.spec.mixer!r}, has no one output projection that reads a token at a time"
            )
    return sites

"""The input of a block's network, and the residual stream that bypasses the network."""

import dataclasses

from torch import Tensor

from ctxblocks.base.records import STATIC, record


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Read:
    """The input of a site, and the residual stream around it.

    Attributes:
        z: the input of the site `(…, d)`, such as the input of the network.
        bypass: the residual stream `r (…, d)`; None for a site without one.
        depends: whether `z` depends on the context; False for parallel blocks.
    """

    z: Tensor
    bypass: Tensor | None = None
    depends: bool = dataclasses.field(default=True, metadata=STATIC)

    def rows(self, index: "slice | list[int]") -> "Read":
        """The rows of that index, along the last batch axis `(…, n, d)`."""
        bypass = None if self.bypass is None else self.bypass[..., index, :]
        return Read(self.z[..., index, :], bypass, self.depends)

    def expand(
        self,
        like: Tensor,  # (…, n, d)
    ) -> "Read":
        """The single row `(…, 1, d)`, expanded to the shape of `like` without a copy."""
        bypass = None if self.bypass is None else self.bypass.expand_as(like)
        return Read(self.z.expand_as(like), bypass, self.depends)

"""The input of a block's network, and the residual stream that bypasses the network."""

import dataclasses

from torch import Tensor

from ctxblocks.base.records import STATIC, record


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Read:
    """The input of a site, and what bypasses the site.

    Attributes:
        z: `(…, d)`, the vector that the first dense layers read.
        bypass: the residual stream `r (…, d)`; None where nothing bypasses the site.
        depends: whether `z` depends on the context; in a parallel block it does not.
    """

    z: Tensor
    bypass: Tensor | None = None
    depends: bool = dataclasses.field(default=True, metadata=STATIC)

    def rows(self, index: "slice | list[int]") -> "Read":
        """Some of the rows `(…, n, d)`."""
        bypass = None if self.bypass is None else self.bypass[..., index, :]
        return Read(self.z[..., index, :], bypass, self.depends)

    def expand(
        self,
        like: Tensor,  # (…, n, d)
    ) -> "Read":
        """The one row `(…, 1, d)`, repeated for all of them without a copy."""
        bypass = None if self.bypass is None else self.bypass.expand_as(like)
        return Read(self.z.expand_as(like), bypass, self.depends)

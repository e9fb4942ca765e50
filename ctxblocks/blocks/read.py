"""What the network of a block reads, and what bypasses it."""

import dataclasses

from torch import Tensor

from ctxblocks.base.records import record


@record
@dataclasses.dataclass(frozen=True, eq=False)
class Read:
    """What a site reads, and what bypasses it.

    Attributes:
        z: `(…, d)`, what the first dense layers read.
        bypass: `r (…, d)`, None where nothing bypasses.
    """

    z: Tensor
    bypass: Tensor | None = None

    def expand(
        self,
        like: Tensor,  # (…, n, d)
    ) -> "Read":
        """The one row for all of them."""
        return Read(self.z.expand_as(like), None if self.bypass is None else self.bypass.expand_as(like))

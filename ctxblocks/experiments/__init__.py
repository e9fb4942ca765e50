"""The paper's experiments: training on in-context regression, Figures 2–6 with their controls, and the claims.

`reproduce(preset("quick"), out)` is what `ctxblocks reproduce --preset quick` does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

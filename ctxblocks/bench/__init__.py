"""The cost of layers: time, memory and operations of all prefixes compared with one forward pass and with plain torch code.

`bench(BenchConfig(layers=("gru",)))` makes the measurements of `ctxblocks bench gru`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

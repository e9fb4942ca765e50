"""What layers cost: time, memory and work of all prefixes beside one forward pass, and plain counterparts.

`bench(BenchConfig(layers=("gru",)))` is what `ctxblocks bench gru` does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""The command line: `main`, and what commands of plugins share with those of the core.

Commands are imported when they are called, so that `ctxblocks --help` loads neither torch nor a plugin.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""The conformance suite: tests that a contextual layer has to pass, for authors of layers.

    from ctxblocks.testing.suite import *

in a test file runs every test on every registered layer; `pytest --pyargs ctxblocks.testing.suite` does so without a file.
A property of your own is a function of a `Case` and a hypothesis `data` object, passed to `Conformance.check`; the fixture
`conformance` gives the `Conformance` of each layer under test. `docs/testing.md` describes options and properties.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

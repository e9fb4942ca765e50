"""The conformance suite: all tests that a contextual layer has to pass.

    pytest --pyargs ctxblocks.testing.suite --ctx-layer NAME

or, in a test file,

    from ctxblocks.testing.suite import *
"""

from ctxblocks.testing.claims import *  # noqa: F403
from ctxblocks.testing.contract import *  # noqa: F403
from ctxblocks.testing.contract_fast import *  # noqa: F403
from ctxblocks.testing.contract_state import *  # noqa: F403
from ctxblocks.testing.registry_group import *  # noqa: F403
from ctxblocks.testing.theorem import *  # noqa: F403

__all__ = [name for name in globals() if name.startswith("test_")]

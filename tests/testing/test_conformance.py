"""The conformance suite on the layers of this project."""

from ctxblocks.testing.suite import *  # noqa: F403

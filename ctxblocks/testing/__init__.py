"""The conformance suite for contextual layers: `ctxblocks.testing.suite`."""

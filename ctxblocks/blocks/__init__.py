"""Contextual layers, networks, blocks and stacks, the reads of a block and its update."""

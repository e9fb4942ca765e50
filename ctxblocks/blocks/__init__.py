"""Layers, networks, blocks and stacks, what they read, and the update of a block."""

"""Numerical exactness: error bounds, blocks to check, and the identity of Theorem 2.2 on all of them.

`tolerance` holds the error bounds, `measure` the tolerance of a block's output, `kinds` the blocks and layers to check,
`identity` the comparison for one block, `verify` the comparison for every layer, block and dtype, and `dtypes` the dtypes.
"""

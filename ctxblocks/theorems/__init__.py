"""The theorems of the paper as functions of blocks and stacks."""

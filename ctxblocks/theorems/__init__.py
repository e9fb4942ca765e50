"""The paper's theorems as functions over blocks and stacks."""

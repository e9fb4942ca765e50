"""Operators, low-rank matrices and solvers: tensors only, no module."""

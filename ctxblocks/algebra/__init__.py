"""Context operators, low-rank matrices and solvers; this room works on tensors and knows no module."""

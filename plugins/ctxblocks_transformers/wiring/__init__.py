"""How a model library's blocks are wired."""

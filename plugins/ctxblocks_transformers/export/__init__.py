"""Updates in weights, files and adapters."""

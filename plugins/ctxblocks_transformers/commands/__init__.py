"""The commands `ctxblocks trace`, `explain` and `export`."""

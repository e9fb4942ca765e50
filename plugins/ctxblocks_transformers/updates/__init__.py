"""The update of a model for one query, and generation without the prompt."""

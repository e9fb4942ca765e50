"""The update of a model for one query, its removal, and generation."""

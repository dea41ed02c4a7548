"""Places where versions are kept: one protocol, several kinds of vault."""

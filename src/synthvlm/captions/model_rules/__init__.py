"""Caption rules with models."""

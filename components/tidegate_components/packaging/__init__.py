"""Packaging: the model package, the one document that crosses from training to serving. No pickle and no code in it."""

"""Weights and tokenizers: where a model comes from, pinned by hash, and how its file becomes a parameter tree."""

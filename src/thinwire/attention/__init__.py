"""Attention over exact and coded context."""

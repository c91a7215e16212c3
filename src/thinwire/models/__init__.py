"""Transformers, each written once."""

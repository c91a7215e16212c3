"""Thinwire: one Transformer across several devices joined by thin links."""

"""Readers of text and of labelled images, windows of tokens, and batches of either to learn from."""

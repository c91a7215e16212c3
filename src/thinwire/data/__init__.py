"""Readers of text: files, the catalogued Wikipedia excerpt, and windows of tokens cut from them."""

"""Quality against the single device, with the bits beside it."""

"""Pallas kernels for accelerators, and the switch that chooses between them and pure JAX; they know arrays only."""

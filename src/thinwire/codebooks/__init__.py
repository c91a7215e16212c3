"""How codes are learnt, judged and kept: k-means, health figures, codebook sets on disk."""

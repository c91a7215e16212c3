"""The sizes of a Transformer that decide its arithmetic and its traffic, whatever its family."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ModelDims:
    """What strategies, formulas and planners need to know of a model."""

    layers: int
    width: int  # D
    heads: int  # H
    kv_heads: int  # K
    head: int  # d
    hidden: int  # F
    mlp_matrices: int  # 3 with a gate, else 2
    vocab: int
    context: int
    causal: bool
    inputs_known: bool = True  # every device knows what enters layer 0 everywhere: token ids, but not patches
    language: bool = True  # the outputs are logits of a vocabulary, not features
    class_token: bool = False  # token 0 sums up the sequence: each device may have one of its own

    def site_dim(self, site: str) -> int:
        """Values a token has at a site where context may be coded, or where partial sums are reduced."""
        return {"kv": 2 * self.kv_heads * self.head}.get(site, self.width)

    def row_flops(self) -> float:
        """FLOPs of one layer's matrices for one row, keys and values apart."""
        return 2.0 * self.width * (2 * self.heads * self.head + self.mlp_matrices * self.hidden)

    def kv_flops(self) -> float:
        """FLOPs of one layer's key and value projections for one row."""
        return 4.0 * self.width * self.kv_heads * self.head

    def pair_flops(self) -> float:
        """FLOPs of one layer's attention for one (query, key) pair."""
        return 4.0 * self.heads * self.head

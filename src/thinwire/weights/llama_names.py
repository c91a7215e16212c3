"""What the arrays of a Llama are called in the files that hold them: one table for GGUF, one for Hugging Face.

Names with ``{}`` are of layer ``{}``. In both formats a matrix is stored (out, in), the transpose of ours.
"""

from collections.abc import Mapping

from thinwire.models.llama_config import LlamaConfig
from thinwire.weights.assemble import Format, Place, linear, same

GGUF: dict[str, str] = {
    "embed": "token_embd.weight",
    "attn_norm": "blk.{}.attn_norm.weight",
    "wq": "blk.{}.attn_q.weight",
    "wk": "blk.{}.attn_k.weight",
    "wv": "blk.{}.attn_v.weight",
    "wo": "blk.{}.attn_output.weight",
    "mlp_norm": "blk.{}.ffn_norm.weight",
    "w_gate": "blk.{}.ffn_gate.weight",
    "w_up": "blk.{}.ffn_up.weight",
    "w_down": "blk.{}.ffn_down.weight",
    "final_norm": "output_norm.weight",
    "head": "output.weight",
}

HUGGING_FACE: dict[str, str] = {
    "embed": "model.embed_tokens.weight",
    "attn_norm": "model.layers.{}.input_layernorm.weight",
    "wq": "model.layers.{}.self_attn.q_proj.weight",
    "wk": "model.layers.{}.self_attn.k_proj.weight",
    "wv": "model.layers.{}.self_attn.v_proj.weight",
    "wo": "model.layers.{}.self_attn.o_proj.weight",
    "mlp_norm": "model.layers.{}.post_attention_layernorm.weight",
    "w_gate": "model.layers.{}.mlp.gate_proj.weight",
    "w_up": "model.layers.{}.mlp.up_proj.weight",
    "w_down": "model.layers.{}.mlp.down_proj.weight",
    "final_norm": "model.norm.weight",
    "head": "lm_head.weight",
}


def gguf_format() -> Format:
    """How GGUF files hold a Llama."""
    return Format("Llama", _places(GGUF), lambda name: None if name == "rope_freqs.weight" else name)


def hugging_face_format(config: LlamaConfig) -> Format:
    """How Hugging Face's files hold one; some keep buffers that follow from the configuration, or a tied head twice."""

    def known_as(name: str) -> str | None:
        buffer = name.endswith("rotary_emb.inv_freq") or (config.tied and name == "lm_head.weight")
        return None if buffer else name

    return Format("Llama", _places(HUGGING_FACE), known_as)


def _places(names: Mapping[str, str]) -> dict[str, Place]:
    return {leaf: Place(name, same if leaf == "embed" else linear) for leaf, name in names.items()}

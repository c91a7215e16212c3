"""Names of scopes: in the sources, in a compiled program, and in the text of one made up."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp

import thinwire
from thinwire.benchmark.scopes import SCOPES, scope_of, scopes_of, without_layer

HLO = """\
HloModule jit_local, is_scheduled=true

%fused_computation (param_0: f32[2]) -> f32[2] {
  %param_0 = f32[2]{0} parameter(0)
  ROOT %tanh = f32[2]{0} tanh(%param_0), metadata={op_name="jit(local)/layer_1/mlp/tanh" stack_frame_id=3}
}

%body (p: (s32[], f32[2])) -> (s32[], f32[2]) {
  %dot.3 = f32[2]{0} dot(%p, %p), metadata={op_name="jit(local)/layer_1/attention/while/body/vmap(encode)/dot_general"}
}

ENTRY %main (x: f32[2]) -> f32[2] {
  %x = f32[2]{0} parameter(0)
  %unnamed_fusion = f32[2]{0} fusion(%x), kind=kLoop, calls=%fused_computation
  %copy.1 = f32[2]{0} copy(%unnamed_fusion)
  %loop = (s32[], f32[2]) while(%t), condition=%c, body=%body, metadata={op_name="jit(local)/layer_1/attention/while"}
  %weights = f32[2]{0} parameter(1)
  %convert.1 = f32[2]{0} convert(%weights)
  %convert.2 = f32[2]{0} convert(%convert.1)
  %dot.4 = f32[2]{0} dot(%convert.2, %x), metadata={op_name="jit(local)/layer_0/mlp/dot_general"}
  %unread = f32[2]{0} parameter(2)
  ROOT %copy.2 = f32[2]{0} copy(%unread)
}
"""


def test_known_names_are_kept_in_their_order():
    way = "jit(local)/layer_12/vmap(attention)/while/body/closed_call/decode/cond/branch_0_fun/jit(_take)/gather"
    assert scope_of(way) == "layer_12/attention/decode"
    assert without_layer(scope_of(way)) == "attention/decode"
    assert scope_of("jit(local)/vmap(jit(_where))/select_n") == ""
    assert without_layer("") == "other"


def test_instructions_without_a_name_belong_where_their_insides_operands_or_readers_do():
    assert scopes_of(HLO) == {
        "param_0": "layer_1/mlp",
        "tanh": "layer_1/mlp",
        "dot.3": "layer_1/attention/encode",
        "x": "layer_0/mlp",
        "unnamed_fusion": "layer_1/mlp",
        "copy.1": "layer_1/mlp",
        "loop": None,
        "weights": "layer_0/mlp",
        "convert.1": "layer_0/mlp",
        "convert.2": "layer_0/mlp",
        "dot.4": "layer_0/mlp",
        "unread": "",
        "copy.2": "",
    }


def test_a_program_that_xla_has_compiled():
    def function(x):
        with jax.named_scope("mlp"):
            return jnp.tanh(x @ x)

    found = scopes_of(jax.jit(function).lower(jnp.ones((64, 64))).compile().as_text())
    assert "mlp" in found.values()
    assert set(found.values()) <= {"mlp", ""}


def test_every_scope_of_the_library_is_known():
    sources = Path(thinwire.__file__).parent.rglob("*.py")
    used = {name for file in sources for name in re.findall(r'named_scope\("(\w+)"\)', file.read_text())}
    assert used == set(SCOPES)

"""The audit alone, on HLO as XLA prints it for CPU, GPU and TPU."""

import pytest

from thinwire.wire.audit import audit_hlo


def program(*body, devices=4, more=""):
    lines = "\n".join(f"  {line}" for line in body)
    return f"""HloModule jit_f, is_scheduled=true, num_partitions={devices}

%add (x: f32[], y: f32[]) -> f32[] {{
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}}

{more}
ENTRY %main (p: u8[6], q: bf16[4,2]) -> u8[4,6] {{
  %p = u8[6]{{0}} parameter(0)
  %q = bf16[4,2]{{1,0}} parameter(1)
{lines}
}}
"""


ALL = "replica_groups={{0,1,2,3}}"
CASES = {
    "gather": (f"%g = u8[4,6]{{1,0}} all-gather(%p), {ALL}, dimensions={{0}}", (18,) * 4),
    "typed operand": (f"%g = u8[4,6]{{1,0}} all-gather(u8[6]{{0}} %p), {ALL}, dimensions={{0}}", (18,) * 4),
    "no groups": ("%g = u8[4,6]{1,0} all-gather(%p), replica_groups={}, dimensions={0}", (18,) * 4),
    "iota groups": ("%g = u8[2,6]{1,0} all-gather(%p), replica_groups=[2,2]<=[4], dimensions={0}", (6,) * 4),
    "some devices": ("%g = u8[2,6]{1,0} all-gather(%p), replica_groups={{1,3}}, dimensions={0}", (0, 6, 0, 6)),
    "started": (f"%g = (u8[6]{{0}}, u8[4,6]{{1,0}}) all-gather-start(%p), {ALL}, dimensions={{0}}", (18,) * 4),
    "two operands": (f"%g = (u8[24], bf16[16,2]) all-gather(%p, %q), {ALL}, dimensions={{0}}", (66,) * 4),
    "all to all": (f"%g = bf16[4,2]{{1,0}} all-to-all(%q), {ALL}, dimensions={{0}}", (12,) * 4),
    "all to all of a tuple": (f"%g = (u8[6], u8[6], u8[6], u8[6]) all-to-all(%p, %p, %p, %p), {ALL}", (18,) * 4),
    "long lists are annotated": (f"%g = (u8[6], /*index=1*/u8[6]) all-to-all(%p, /*index=1*/%p), {ALL}", (9,) * 4),
    "ring": ("%g = u8[6]{0} collective-permute(%p), source_target_pairs={{0,1},{1,2},{2,3},{3,0}}", (6,) * 4),
    "open": ("%g = u8[6] collective-permute-start(%p), source_target_pairs={{0,1},{1,2},{2,3}}", (6, 6, 6, 0)),
    "to itself": ("%g = u8[6]{0} collective-permute(%p), source_target_pairs={{0,0},{1,2}}", (0, 6, 0, 0)),
    "all-reduce": (f"%g = bf16[4,2]{{1,0}} all-reduce(%q), {ALL}, to_apply=%add", (24,) * 4),
    "reduce-scatter": (f"%g = bf16[1,2]{{1,0}} reduce-scatter(%q), {ALL}, to_apply=%add", (12,) * 4),
    "nothing": ("%g = u8[6]{0} copy(%p)", (0,) * 4),
    "a name is not an opcode": ("%all-gather.1 = u8[6]{0} copy(%p), metadata={op_name=\"all-gather(x)\"}", (0,) * 4),
    "4-bit integers are packed": (f"%g = s4[4,6] all-gather(s4[6]{{0}} %p), {ALL}", (9,) * 4),
    "predicates are bytes": (f"%g = pred[4,6] all-gather(pred[6]{{0}} %p), {ALL}", (18,) * 4),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_one_collective(case):
    line, expected = CASES[case]
    assert audit_hlo(program(line)).bytes_by_device() == expected


def test_done_is_not_counted_again():
    text = program(
        f"%s = (u8[6]{{0}}, u8[4,6]{{1,0}}) all-gather-start(%p), {ALL}, dimensions={{0}}",
        "ROOT %d = u8[4,6]{1,0} all-gather-done(%s)",
    )
    assert audit_hlo(text).bytes_by_device() == (18,) * 4


LOOP = """%body (s: (s32[], u8[6])) -> (s32[], u8[6]) {
  %s = (s32[], u8[6]{0}) parameter(0)
  %v = u8[6]{0} get-tuple-element(%s), index=1
  %c = u8[6]{0} collective-permute(%v), source_target_pairs={{0,1},{1,2},{2,3},{3,0}}
  ROOT %t = (s32[], u8[6]{0}) tuple(%i, %c)
}

%outer (s: (s32[], u8[6])) -> (s32[], u8[6]) {
  %s = (s32[], u8[6]{0}) parameter(0)
  ROOT %w = (s32[], u8[6]{0}) while(%s), condition=%less, body=%body, backend_config={"known_trip_count":{"n":"3"}}
}
"""


def loop(trips):
    config = f', backend_config={{"known_trip_count":{{"n":"{trips}"}}}}' if trips is not None else ""
    return program(f"ROOT %w = (s32[], u8[6]{{0}}) while(%t), condition=%less, body=%outer{config}", more=LOOP)


def test_loops_within_loops_multiply():
    audit = audit_hlo(loop(5))
    assert audit.bytes_by_device() == (90,) * 4
    assert audit.count() == 15
    assert [s.times for s in audit.sent] == [15]


def test_a_loop_that_does_not_run_sends_nothing():
    assert audit_hlo(loop(0)).bytes_by_device() == (0,) * 4


def test_unknown_trip_count_is_an_error_and_not_a_guess():
    with pytest.raises(ValueError, match="unknown trip count"):
        audit_hlo(loop(None))


def test_unknown_trip_count_around_no_collective_does_not_matter():
    text = program("ROOT %w = u8[6]{0} while(%p), condition=%less, body=%add")
    assert audit_hlo(text).bytes_by_device() == (0,) * 4


def test_calls_and_fusions_are_entered():
    inner = f"""%called (p.1: u8[6]) -> u8[4,6] {{
  %p.1 = u8[6]{{0}} parameter(0)
  ROOT %g = u8[4,6]{{1,0}} all-gather(%p.1), {ALL}, dimensions={{0}}
}}
"""
    for line in (
        "ROOT %r = u8[4,6] call(%p), to_apply=%called",
        "ROOT %r = u8[4,6] fusion(%p), kind=kLoop, calls=%called",
        "ROOT %r = ((u8[6]), u8[4,6]) async-start(%p), calls=%called",
    ):
        assert audit_hlo(program(line, more=inner)).bytes_by_device() == (18,) * 4


def branches(second):
    return f"""%one (a: u8[6]) -> u8[6] {{
  %a = u8[6]{{0}} parameter(0)
  ROOT %g = u8[6]{{0}} collective-permute(%a), source_target_pairs={{{{0,1}},{{1,0}}}}
}}

%two (b: u8[6]) -> u8[6] {{
  %b = u8[6]{{0}} parameter(0)
  ROOT %h = u8[6]{{0}} {second}
}}
"""


def test_branches_have_to_send_the_same():
    line = "ROOT %r = u8[6] conditional(%i, %p, %p), branch_computations={%one, %two}"
    same = branches("collective-permute(%b), source_target_pairs={{0,1},{1,0}}")
    assert audit_hlo(program(line, more=same)).bytes_by_device() == (6, 6, 0, 0)
    with pytest.raises(ValueError, match="which branch"):
        audit_hlo(program(line, more=branches("copy(%b)")))


def test_bytes_that_are_not_static_are_refused():
    with pytest.raises(ValueError, match="not static"):
        audit_hlo(program(f"%g = u8[6]{{0}} ragged-all-to-all(%p, %p), {ALL}"))


def test_text_that_is_no_hlo_is_refused():
    with pytest.raises(ValueError, match="no entry"):
        audit_hlo("hello")

"""Named scopes of a compiled program: which part of the model an instruction belongs to.

A profile names XLA's instructions, such as ``ynn_fusion.12``. The compiled program says of each under which
``jax.named_scope`` it was traced, and this file reads it there.
"""

import re
from collections import Counter
from collections.abc import Iterable

# All that the library calls a scope, and what it is.
SCOPES = {
    "embed": "what enters layer 0",
    "attention": "a layer's first half: its norm, the rotation of positions, the sum",
    "project": "queries, keys and values from rows, and rows from heads",
    "attend": "attention to own rows and those of other devices at once",
    "attend_own": "attention to a device's own rows",
    "attend_others": "attention to the other devices' rows",
    "encode": "a codec makes payloads of rows",
    "exchange": "payloads on the wire, and the waiting for them",
    "decode": "a codec makes rows of payloads",
    "all_reduce": "partial sums made whole",
    "mlp": "a layer's second half",
    "head": "logits of the last row, or features",
}
OTHER = "other"
_LAYER = re.compile(r"layer_\d+")
_INNERMOST = re.compile(r"\w*\(|\)")  # vmap(attention): a transformation around a name

_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) .*->.*\{$")
_OP_NAME = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_CALLS = re.compile(r"\b(?:calls|to_apply)=%?([\w.-]+)")
_OPERAND = re.compile(r"%([\w.-]+)")
_CONTROL = re.compile(r" (?:while|conditional)\(")


def scope_of(op_name: str) -> str:
    """The known names on an instruction's way, as ``layer_3/attention/encode``; empty where there is none.

    Args:
        op_name: as XLA keeps it, such as ``jit(local)/vmap(attention)/encode/dot_general``.
    """
    words = (_INNERMOST.sub("", word) for word in op_name.split(";")[0].split("/"))
    return "/".join(word for word in words if word in SCOPES or _LAYER.fullmatch(word))


def without_layer(scope: str) -> str:
    """The same in every layer."""
    return "/".join(word for word in scope.split("/") if not _LAYER.fullmatch(word)) or OTHER


def scopes_of(hlo: str) -> dict[str, str | None]:
    """The scope of every instruction of a program, by its name; None for loops and branches, which only hold others.

    What XLA has added without saying why (copies and conversions, mostly) belongs where the instructions inside it do,
    else where what it reads does, else where it is read.

    Args:
        hlo: ``compiled.as_text()``.
    """
    found: dict[str, str | None] = {}
    inside: dict[str, Counter[str]] = {}  # by computation
    read_by: dict[str, list[str]] = {}  # operands by instruction
    computation = ""
    for line in hlo.splitlines():
        if opened := _COMPUTATION.match(line):
            computation = opened[1]
        elif parts := _INSTRUCTION.match(line):
            name, text = parts.groups()
            op_name = _OP_NAME.search(text)
            scope = scope_of(op_name[1]) if op_name else ""
            if _CONTROL.search(text):
                found[name] = None
                continue
            read_by[name] = _OPERAND.findall(text)
            scope = scope or _commonest(inside, _CALLS.findall(text)) or _first(found, read_by[name])
            found[name] = scope
            if scope:
                inside.setdefault(computation, Counter())[scope] += 1
    for name, operands in reversed(read_by.items()):  # readers come behind what they read
        for operand in operands:
            if found.get(operand) == "" and found[name]:
                found[operand] = found[name]
    return found


def _commonest(inside: dict[str, Counter[str]], computations: Iterable[str]) -> str:
    together: Counter[str] = sum((inside.get(name, Counter()) for name in computations), Counter())
    return together.most_common(1)[0][0] if together else ""


def _first(found: dict[str, str | None], operands: Iterable[str]) -> str:
    return next((scope for name in operands if (scope := found.get(name))), "")

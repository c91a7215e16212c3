"""The audit: what every device sends, read from the compiled HLO and from nothing else.

The third witness beside the formula (``Strategy.traffic``) and the ledger: it counts the operands of the collectives
that XLA has really compiled, whatever it has merged, widened or moved.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

_OPCODES = "all-gather|all-to-all|all-reduce|reduce-scatter|collective-permute|collective-broadcast|ragged-all-to-all"
_COLLECTIVE = re.compile(rf"(?:^| )({_OPCODES})(-start)?\(")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) .*->.*\{$")
_INSTRUCTION = re.compile(r"^(?:ROOT )?%?([\w.-]+) = (.*)$")
_ARRAY = re.compile(r"\b(pred|token|[a-z]+\d+\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"\b(?:branch_computations|called_computations)=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_COMMENT = re.compile(r"/\*.*?\*/")
_PAIR = re.compile(r"\{(\d+),(\d+)\}")
_GROUPS = re.compile(r"replica_groups=(?:\{(\{[\d,{} ]*\})\}|\[(\d+),(\d+)\]<=)")
_PARTITIONS = re.compile(r"\b(?:num_partitions|replica_count)=(\d+)")


@dataclasses.dataclass(frozen=True)
class Sent:
    """One collective instruction of the compiled program, with everything that encloses it."""

    opcode: str
    operands: tuple[str, ...]  # types and shapes, as "u8[13,60]"
    operand_bytes: int  # of all operands on one device
    times: int  # how often it runs: the product of the trip counts of the loops around it
    bytes_by_device: tuple[int, ...]  # sent in one run, summed over receivers


@dataclasses.dataclass(frozen=True)
class Audit:
    """All collectives of a compiled program."""

    sent: tuple[Sent, ...]
    devices: int

    def bytes_by_device(self) -> tuple[int, ...]:
        """Bytes each device sends in one run of the program."""
        return tuple(sum(s.times * s.bytes_by_device[n] for s in self.sent) for n in range(self.devices))

    def count(self) -> int:
        """How many collectives one run of the program executes."""
        return sum(s.times for s in self.sent)


@dataclasses.dataclass(frozen=True)
class _Instruction:
    text: str  # what stands right of "name ="
    shapes: str  # the result's type


def audit_hlo(text: str) -> Audit:
    """Returns what every device sends, from ``lowered.compile().as_text()``.

    An all-gather sends its operand to N−1 others, an all-to-all (N−1)/N of its operand, a collective-permute its
    operand where the device is a source. An all-reduce and a reduce-scatter are counted as the ring algorithm sends
    them: 2(N−1)/N and (N−1)/N of the operand.

    Raises:
        ValueError: a collective runs in a loop whose trip count is unknown, in a branch that other branches do not
            match byte for byte, or is of a kind whose bytes are not static.
    """
    text = _COMMENT.sub("", text)
    computations, entry = _computations(text)
    header = text.split("\n", 1)[0]
    devices = max([1, *map(int, _PARTITIONS.findall(header))])
    return Audit(tuple(_walk(computations, entry, 1, devices)), devices)


def _computations(text: str) -> tuple[dict[str, dict[str, _Instruction]], str]:
    """All computations by name, each the instructions by name; and the name of the entry."""
    found: dict[str, dict[str, _Instruction]] = {}
    entry, inside = "", None
    for raw in text.splitlines():
        line = raw.strip()
        if inside is None:
            start = _COMPUTATION.match(line)
            if start:
                inside = found.setdefault(start[2], {})
                entry = start[2] if start[1] else entry
        elif line == "}" or line.startswith("} "):
            inside = None
        elif instruction := _INSTRUCTION.match(line):
            inside[instruction[1]] = _Instruction(instruction[2], _result_type(instruction[2]))
    if not entry:
        raise ValueError("this is not the text of a compiled HLO module: it has no entry computation")
    return found, entry


def _result_type(text: str) -> str:
    if not text.startswith("("):
        return text.split(" ", 1)[0]
    return _parenthesised(text, 0)


def _parenthesised(text: str, start: int) -> str:
    """What stands in the parentheses that open at ``start``."""
    depth = 0
    for end in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if not depth:
            return text[start + 1 : end]
    raise ValueError(f"unbalanced parentheses in the HLO: {text[:80]}")


def _walk(computations: Mapping, name: str, times: int, devices: int) -> Iterator[Sent]:
    """Every collective under the computation ``name``, which runs ``times`` times."""
    instructions = computations.get(name, {})
    for instruction in instructions.values():
        text = instruction.text
        after_type = text[text.find(instruction.shapes) + len(instruction.shapes) :].lstrip(")")
        opcode = after_type.split("(", 1)[0].strip()
        if opcode.endswith(("-done", "-update")):
            continue  # the bytes were counted at the start
        match = _COLLECTIVE.match(f" {after_type.strip()}")
        if match:
            yield _collective(match[1], text, instructions, times, devices)
        elif opcode == "while":
            trips = _TRIPS.search(text)
            inside = [s for called in _called(text) for s in _walk(computations, called, 1, devices)]
            if inside and trips is None:
                raise ValueError(f"{inside[0].opcode} runs in a loop of unknown trip count: {text[:120]}")
            for sent in inside:
                yield dataclasses.replace(sent, times=sent.times * times * int(trips[1]))  # type: ignore[index]
        elif opcode == "conditional":
            branches = [list(_walk(computations, called, times, devices)) for called in _called(text)]
            totals = {Audit(tuple(branch), devices).bytes_by_device() for branch in branches}
            if len(totals) > 1:
                raise ValueError(f"what is sent depends on which branch is taken: {text[:120]}")
            yield from branches[0]
        else:
            for called in _called(text):
                yield from _walk(computations, called, times, devices)


def _called(text: str) -> list[str]:
    lists = [name.strip().lstrip("%") for names in _BRANCHES.findall(text) for name in names.split(",")]
    return _CALLED.findall(text) + [name for name in lists if name]


def _collective(opcode: str, text: str, instructions: Mapping, times: int, devices: int) -> Sent:
    operands = _operand_arrays(opcode, text, instructions)
    size = sum(_bytes(dtype, shape) for dtype, shape in operands)
    if opcode == "collective-permute":
        pairs = _PAIR.findall(text[text.find("source_target_pairs=") :].split("}}")[0] + "}}")
        sources = [int(source) for source, target in pairs if source != target]
        by_device = [size * sources.count(n) for n in range(devices)]
    else:
        by_device = [0] * devices
        for n, others in _others(text, devices).items():
            by_device[n] = _sent(opcode, size, others, text)
    return Sent(opcode, tuple(f"{d}[{s}]" for d, s in operands), size, times, tuple(by_device))


def _sent(opcode: str, size: int, others: int, text: str) -> int:
    """Bytes one device sends to ``others`` others."""
    part = size * others / (others + 1)
    counts = {"all-gather": size * others, "all-to-all": part, "reduce-scatter": part, "all-reduce": 2 * part}
    if opcode not in counts:
        raise ValueError(f"the bytes of a {opcode} are not static: {text[:120]}")
    return math.ceil(counts[opcode])


def _others(text: str, devices: int) -> dict[int, int]:
    """For each device that takes part, to how many others it is grouped."""
    match = _GROUPS.search(text)
    if match and match[1]:
        groups = [[int(n) for n in group.split(",") if n.strip()] for group in re.findall(r"\{([\d, ]*)\}", match[1])]
        return {n: len(group) - 1 for group in groups for n in group}
    size = int(match[3]) if match else devices  # no groups: all devices are one
    return dict.fromkeys(range(devices), size - 1)


def _operand_arrays(opcode: str, text: str, instructions: Mapping) -> list[tuple[str, str]]:
    """Element type and shape of each operand; looked up by name where the call does not repeat them."""
    call = re.search(rf" {opcode}(?:-start)?\(", text)
    assert call is not None
    arguments = _parenthesised(text, call.end() - 1)
    if inline := _ARRAY.findall(arguments):
        return inline
    names = [name.strip().lstrip("%") for name in arguments.split(",")]
    return [array for name in names for array in _ARRAY.findall(instructions[name].shapes)]


def _bytes(dtype: str, shape: str) -> int:
    bits = 8 if dtype in ("pred", "token") else int(re.sub(r"^[a-z]+(\d+).*", r"\1", dtype))
    return -(-bits * math.prod(int(n) for n in shape.split(",") if n) // 8)

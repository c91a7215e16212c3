"""Profiles of a pass on several hosts: seconds by named scope, and one trace of all hosts with the scopes in it."""

import dataclasses
import gzip
import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from thinwire.benchmark.recording import PASS, runs_folder
from thinwire.benchmark.scopes import without_layer

TRACE, TABLE = "trace.json.gz", "scopes.json"
BETWEEN = "(nothing runs)"


@dataclasses.dataclass(frozen=True)
class Op:
    """An instruction that ran: where it belongs, on which thread, when, and for how long in itself."""

    name: str
    scope: str | None  # None: a loop or branch, which only holds others
    thread: str
    begin_ns: int
    end_ns: int
    self_ns: int


@dataclasses.dataclass(frozen=True)
class Profile:
    """What one host did in a pass; nanoseconds of the clock that its machine shows, of which floats hold too few."""

    host: int
    begin_ns: int
    end_ns: int
    ops: tuple[Op, ...]

    def seconds_by_scope(self) -> dict[str, float]:
        """Seconds in each scope, all layers and threads together, and in which nothing ran."""
        found: dict[str, float] = {}
        for op in self.ops:
            if op.scope is not None:
                name = without_layer(op.scope)
                found[name] = found.get(name, 0.0) + op.self_ns / 1e9
        busy = sum(end - begin for begin, end in _union([op for op in self.ops if op.scope is not None]))
        return {**found, BETWEEN: max(0.0, self.end_ns - self.begin_ns - busy) / 1e9}


def folder_name(strategy: str, tokens: int, mbps: float | None = None) -> str:
    """The folder of a strategy's pass: a name that every system and shell takes."""
    rate = "" if mbps is None else f"-{mbps:g}mbps"
    return f"{re.sub(r'[^A-Za-z0-9.=_]+', '-', strategy)}-{tokens}tokens{rate}"


def finish(folder: Path, hosts: int) -> dict[str, Any]:
    """Reads what ``record`` left of each host, writes the trace and the table; the table.

    Returns:
        ``pass_s``, the longest host's, and ``scopes``: by scope the seconds of the host that spent most there and of
        the one that spent least, largest first.
    """
    profiles = [read(folder, host) for host in range(hosts)]
    by_host = [profile.seconds_by_scope() for profile in profiles]
    of = lambda scope: [found.get(scope, 0.0) for found in by_host]
    names = sorted({scope for found in by_host for scope in found}, key=lambda scope: -max(of(scope)))
    table = {
        "pass_s": max(profile.end_ns - profile.begin_ns for profile in profiles) / 1e9,
        "scopes": {scope: {"most_s": max(of(scope)), "least_s": min(of(scope))} for scope in names},
    }
    (folder / TABLE).write_text(json.dumps({**table, "by_host": by_host}, indent=2) + "\n")
    with gzip.open(folder / TRACE, "wt", encoding="utf-8") as file:
        json.dump({"displayTimeUnit": "ms", "traceEvents": list(_trace(profiles))}, file)
    return table


def read(folder: Path, host: int) -> Profile:
    """What a host did between begin and end of its pass."""
    from jax.profiler import ProfileData

    place = runs_folder(folder)
    scopes = json.loads((place / f"h{host}.ops.json").read_text())
    found: list[tuple[str, str, int, int]] = []  # instruction, thread, begin, end
    begin = end = origin = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # types of the reader's that have no module
        for plane in ProfileData.from_file(str(place / f"h{host}.xplane.pb")).planes:
            if plane.name == "Task Environment":
                origin = int(dict(plane.stats)["profile_start_time"])  # pyright: ignore[reportArgumentType]
            for line in plane.lines:
                for event in line.events:
                    if event.name == PASS:
                        begin, end = round(event.start_ns), round(event.end_ns)
                    elif event.name in scopes and "hlo_op" in dict(event.stats):
                        found.append((event.name, line.name, round(event.start_ns), round(event.end_ns)))
    inside = [one for one in found if begin <= one[2] < end]
    ops = [
        Op(name, scopes[name], thread, origin + at, origin + until, until - at - within)
        for (name, thread, at, until), within in _nested(inside)
    ]
    return Profile(host, origin + begin, origin + end, tuple(ops))


def _nested(events: Sequence[tuple[str, str, int, int]]) -> Iterator[tuple[tuple[str, str, int, int], int]]:
    """Each event with the time that events inside it, on the same thread, take."""
    stacks: dict[str, list[list]] = {}
    for event in sorted(events, key=lambda one: (one[2], -one[3])):
        stack = stacks.setdefault(event[1], [])
        while stack and stack[-1][0][3] <= event[2]:
            yield tuple(stack.pop())
        if stack:
            stack[-1][1] += event[3] - event[2]
        stack.append([event, 0])
    for stack in stacks.values():
        yield from (tuple(one) for one in stack)


def _union(ops: Sequence[Op]) -> Iterator[tuple[int, int]]:
    """The stretches of time in which at least one of them runs."""
    begin, end = 0, -1  # none yet
    for op in sorted(ops, key=lambda op: op.begin_ns):
        if op.begin_ns > end:
            if end > begin:
                yield begin, end
            begin = op.begin_ns
        end = max(end, op.end_ns)
    if end > begin:
        yield begin, end


def _trace(profiles: Sequence[Profile]) -> Iterator[dict[str, Any]]:
    """Events of the trace format that Perfetto and Chrome read: a process a host, two tracks a thread."""
    origin = min(profile.begin_ns for profile in profiles)
    for profile in profiles:
        yield _name("process_name", f"host {profile.host}", profile.host)
        yield _name("thread_name", PASS, profile.host, 0)
        yield _slice(profile.host, 0, PASS, profile.begin_ns - origin, profile.end_ns - origin)
        for number, thread in enumerate(sorted({op.thread for op in profile.ops})):
            ops = sorted((op for op in profile.ops if op.thread == thread), key=lambda op: (op.begin_ns, -op.end_ns))
            scopes, instructions = 2 * number + 1, 2 * number + 2
            yield _name("thread_name", f"scopes {number}", profile.host, scopes)
            yield _name("thread_name", f"instructions {number}", profile.host, instructions)
            for path, begin, end in _stretches([op for op in ops if op.scope is not None]):
                yield _slice(profile.host, scopes, path[-1], begin - origin, end - origin, scope="/".join(path))
            for op in ops:
                times = op.begin_ns - origin, op.end_ns - origin
                yield _slice(profile.host, instructions, op.name, *times, scope=op.scope or "")


def _stretches(ops: Sequence[Op]) -> Iterator[tuple[tuple[str, ...], int, int]]:
    """Scopes as nested stretches of time: one lasts while instructions of it follow each other on the thread."""
    open_: list[tuple[str, int]] = []
    until = 0
    close = lambda: (tuple(word for word, _ in open_), open_.pop()[1], until)
    for op in ops:
        words = op.scope.split("/") if op.scope else []
        same = 0
        while same < min(len(words), len(open_)) and words[same] == open_[same][0]:
            same += 1
        while len(open_) > same:
            yield close()
        open_ += [(word, op.begin_ns) for word in words[same:]]
        until = max(until, op.end_ns)
    while open_:
        yield close()


def _slice(pid: int, tid: int, name: str, begin_ns: int, end_ns: int, **args: str) -> dict[str, Any]:
    times = {"ts": begin_ns / 1e3, "dur": (end_ns - begin_ns) / 1e3}  # microseconds
    return {"ph": "X", "pid": pid, "tid": tid, "name": name, **times, "args": args}


def _name(what: str, name: str, pid: int, tid: int | None = None) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": pid, **({} if tid is None else {"tid": tid}), "args": {"name": name}}

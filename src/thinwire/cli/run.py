"""`thinwire run`: continue a prompt, read by one device or by several."""

import argparse
import dataclasses
import sys
import time
from typing import Any

import numpy as np

from thinwire.cli import console, inputs, trained
from thinwire.data.text import read_text
from thinwire.decoding import DECODINGS, parse_decoding
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.generation import check_length, decoding, generate
from thinwire.models.families import FAMILIES
from thinwire.planning.cache_memory import cache_memory
from thinwire.reports.json_file import write_json
from thinwire.sampling import Sampling
from thinwire.strategies import Single, parse_strategy
from thinwire.strategies.balance import shares_of
from thinwire.text_stream import TextStream
from thinwire.training.artefact import codecs
from thinwire.weights.shapes import SHAPES

NAME = "run"
HELP = "continue a prompt, on one device or on several"
EXAMPLES = """\
thinwire run --prompt "The capital of France is" --max-tokens 20
thinwire run --devices 4 --strategy sequence:quality --prompt-file chapter.txt --max-tokens 100 --json run.json
thinwire run --devices 4 --strategy sequence:extreme --decode all --prompt-file chapter.txt > continuation.txt
thinwire run --trained my-adapter --prompt-file chapter.txt
thinwire run --strategy single --prompt "Once upon a time" --temperature 0.8 --top-p 0.95 --seed 3
"""

DEFAULT_STRATEGY = "sequence:vq:groups=16"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    inputs.add_model(parser)
    trained.add_trained(parser)
    inputs.add_dtype(parser)
    inputs.add_kernels(parser)
    inputs.add_devices(parser)
    parser.add_argument(
        "--strategy", metavar="S", help=f"default: {DEFAULT_STRATEGY}, or what the weights were trained for"
    )
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", metavar="TEXT", help="the text to continue")
    prompt.add_argument(
        "--prompt-file", metavar="FILE", help="a UTF-8 file with the text to continue; - for standard input"
    )
    parser.add_argument("--max-tokens", type=int, default=64, metavar="N", help="how many tokens to add (default: 64)")
    parser.add_argument(
        "--decode",
        default="one",
        metavar="HOW",
        help="who goes on after the prompt: 'one' device with all that it has decoded, or 'all', each with its own "
        f"tokens exactly, at a few kB a layer and token; there are {', '.join(DECODINGS)} (default: one)",
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="X", help="0 takes the likeliest (default: 0)"
    )
    parser.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="draw from the likeliest tokens that make up this probability (default: 1, all)",
    )
    inputs.add_seed(parser)
    parser.add_argument("--json", metavar="FILE", help="write the text and all figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Continue the prompt: the text to stdout as it comes and nothing else, all remarks to stderr."""
    artefact = trained.read(args.trained)
    strategy = parse_strategy(args.strategy or (DEFAULT_STRATEGY if artefact is None else artefact.card.strategy))
    if artefact is not None and args.codebooks is None:
        codecs(artefact, strategy)  # refuses one that it was not trained for
    single = isinstance(strategy, Single)
    sampling = Sampling(args.temperature, args.top_p, args.seed)
    how = parse_decoding(args.decode)
    if args.max_tokens < 1:
        raise ThinwireError(f"--max-tokens is {args.max_tokens}; ask for at least 1.")
    inputs.check_devices(args.devices, args.split)
    inputs.check_outputs(args.json)
    prompt = _prompt(args)
    if args.model.removeprefix("shape:") in SHAPES and args.model.startswith("shape:"):
        raise ThinwireError(
            f"{args.model} has random weights and no tokenizer, so it cannot continue a text; name a real model."
        )
    model = trained.open_model(args.model, artefact)
    if model.tokenizer is None:
        raise ThinwireError(f"{model.name} has no tokenizer, so it cannot continue a text.")
    ids_T = np.array(model.tokenizer.encode(prompt), np.int32)
    devices = 1 if single else args.devices
    split = None if single else args.split
    check_length(model, len(ids_T), args.max_tokens)
    dims = FAMILIES[model.family].dims(model.config)
    strategy.check(dims)
    how.check(model.name, strategy, dims)
    strategy.layout(dims, len(ids_T), devices, shares_of(split, strategy, dims, len(ids_T), devices))
    codecs_of = inputs.codecs_for(model, [strategy], args.devices, args.codebooks, args.seed, trained=artefact)
    engine = Engine(model, strategy, devices, codecs_of(strategy), split, args.dtype)
    engine.prepare(len(ids_T), "last", keep_cache=how.keeps)
    tokens, times = _print(engine, ids_T, args.max_tokens, sampling, args.decode)
    facts = _facts(engine, args.decode, len(ids_T), args.max_tokens, times)
    if args.json is not None:
        document = {
            **inputs.environment(args.command_line),
            "model": model.name,
            **dataclasses.asdict(sampling),
            **facts,
            "text": model.tokenizer.decode(tokens),
        }
        write_json(args.json, document)
    _summarise(facts)
    return 0


def _print(engine: Engine, ids_T, max_tokens: int, sampling: Sampling, decode: str) -> tuple[list[int], list[float]]:
    """Writes the continuation as it is made; its tokens, and the seconds until each."""
    tokenizer = engine.model.tokenizer
    assert tokenizer is not None
    stream = TextStream(tokenizer.decode)
    tokens, times, start = [], [], time.perf_counter()
    for token in generate(engine, ids_T, max_tokens, sampling, decode):
        times.append(time.perf_counter() - start)
        tokens.append(token)
        _write(stream.add(token))
    _write(stream.end())
    if sys.stdout.isatty():  # a pipe or a file gets the text and nothing else
        _write("\n")
    return tokens, times


def _write(text: str) -> None:
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()


def _facts(engine: Engine, decode: str, prompt: int, room: int, times: list[float]) -> dict[str, Any]:
    """All figures of a run. The second token is not timed: it waits for the step to be compiled."""
    per_token, memory = decoding(engine, decode).traffic(), cache_memory(engine, prompt, room)
    steady = len(times) - 2
    return {
        "strategy": engine.strategy.spec(),
        "devices": engine.devices,
        "decode": decode,
        "prompt_tokens": prompt,
        "new_tokens": len(times),
        "prefill_bytes_per_device": max(engine.traffic(prompt).bytes_by_device),
        "bytes_per_new_token_per_device": max(per_token.bytes_by_device),
        "first_token_s": times[0] if times else None,
        "tokens_per_s": steady / (times[-1] - times[1]) if steady > 0 else None,
        "cache_bytes": dataclasses.asdict(memory),
        "cache_bytes_of_this_run": memory.of(decode),
        "emulated": engine.devices > 1,
    }


def _summarise(facts: dict[str, Any]) -> None:
    several = facts["devices"] > 1
    where = f"on {facts['devices']} virtual devices" if several else "on one device"
    sent = f", {facts['prefill_bytes_per_device']:,} bytes sent by each" if several else ""
    rate = f" at {facts['tokens_per_s']:.1f} tokens/s" if facts["tokens_per_s"] else ""
    per_token = facts["bytes_per_new_token_per_device"]
    traffic = f"{per_token:,} bytes a token and device" if per_token else "nothing sent"
    console.remark(f"[{facts['prompt_tokens']} tokens read by {facts['strategy']} {where}{sent}]")
    console.remark(f"[{facts['new_tokens']} new ones by decoding {facts['decode']!r}{rate}, {traffic}]")
    memory = facts["cache_bytes"]
    ways = {"single": "single_float32"} | ({"one": "one", "one:coded": "one_coded", "all": "all"} if several else {})
    listed = ", ".join(f"{name} {memory[key] / 1e6:.2f}" for name, key in ways.items() if memory[key] is not None)
    books = f"; codebooks {memory['codebooks'] / 1e6:.2f}" if memory["codebooks"] else ""
    console.remark(f"[cache of a device, MB, by formula: {listed}{books}]")


def _prompt(args: argparse.Namespace) -> str:
    if args.prompt_file == "-":
        text = _decode(sys.stdin.buffer.read(), "on standard input")
    elif args.prompt_file is not None:
        text = read_text(args.prompt_file)
    else:
        text = _decode(args.prompt.encode("utf-8", "surrogateescape"), "of --prompt")
    if not text:
        raise ThinwireError("The prompt is empty; give it some text.")
    return text


def _decode(raw: bytes, where: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise ThinwireError(
            f"The text {where} is not UTF-8: byte {error.start} (0x{raw[error.start]:02x}) does not fit; convert it."
        ) from None

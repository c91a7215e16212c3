"""`thinwire run`: continue a prompt, read by one device or by several."""

import argparse
import sys
import time

import numpy as np

from thinwire.cli import console, inputs
from thinwire.data.text import read_text
from thinwire.engine import Engine, Sampling, check_length
from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.reports.json_file import to_json
from thinwire.strategies import Single, parse_strategy
from thinwire.weights.shapes import SHAPES

NAME = "run"
HELP = "continue a prompt, on one device or on several"
EXAMPLES = """\
thinwire run --prompt "The capital of France is" --max-tokens 20
thinwire run --devices 4 --strategy sequence:vq:groups=16 --prompt-file chapter.txt --max-tokens 100
thinwire run --strategy single --prompt "Once upon a time" --temperature 0.8 --seed 3
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    inputs.add_model(parser)
    inputs.add_dtype(parser)
    inputs.add_devices(parser)
    parser.add_argument(
        "--strategy", default="sequence:vq:groups=16", metavar="S", help="default: sequence:vq:groups=16"
    )
    prompt = parser.add_mutually_exclusive_group(required=True)
    prompt.add_argument("--prompt", metavar="TEXT", help="the text to continue")
    prompt.add_argument(
        "--prompt-file", metavar="FILE", help="a UTF-8 file with the text to continue; - for standard input"
    )
    parser.add_argument("--max-tokens", type=int, default=64, metavar="N", help="how many tokens to add (default: 64)")
    parser.add_argument(
        "--temperature", type=float, default=0.0, metavar="X", help="0 takes the likeliest (default: 0)"
    )
    inputs.add_seed(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the text")


def run(args: argparse.Namespace) -> int:
    """Continue the prompt, printing as the tokens come."""
    strategy = parse_strategy(args.strategy)
    single = isinstance(strategy, Single)
    if not 0 <= args.temperature < float("inf"):
        raise ThinwireError(f"--temperature is {args.temperature}; give 0 or a positive number.")
    if args.max_tokens < 1:
        raise ThinwireError(f"--max-tokens is {args.max_tokens}; ask for at least 1.")
    inputs.check_devices(args.devices, args.split)
    prompt = _prompt(args)
    if args.model.removeprefix("shape:") in SHAPES and args.model.startswith("shape:"):
        raise ThinwireError(
            f"{args.model} has random weights and no tokenizer, so it cannot continue a text; name a real model."
        )
    model = inputs.open_model(args.model)
    if model.tokenizer is None:
        raise ThinwireError(f"{model.name} has no tokenizer, so it cannot continue a text.")
    ids_T = np.array(model.tokenizer.encode(prompt), np.int32)
    devices = 1 if single else args.devices
    split = None if single else args.split
    check_length(model, len(ids_T), args.max_tokens)
    dims = FAMILIES[model.family].dims(model.config)
    strategy.check(dims)
    strategy.layout(dims, len(ids_T), devices, split)
    codecs_of = inputs.codecs_for(model, [strategy], args.devices, args.codebooks, args.seed)
    engine = Engine(model, strategy, devices, codecs_of(strategy), split, args.dtype)
    engine.prepare(len(ids_T), "last", keep_cache=True)
    start = time.perf_counter()
    tokens: list[int] = []
    shown = ""
    first_s = 0.0
    for token in engine.generate(ids_T, args.max_tokens, Sampling(args.temperature, args.seed)):
        first_s = first_s or time.perf_counter() - start
        tokens.append(token)
        if not args.json:
            shown = _stream(model.tokenizer.decode(tokens), shown)
    if not args.json:  # what was held back for bytes that never came
        sys.stdout.write(model.tokenizer.decode(tokens)[len(shown) :])
    traffic = engine.traffic(len(ids_T))
    facts = {
        "strategy": strategy.spec(),
        "devices": devices,
        "prompt_tokens": len(ids_T),
        "new_tokens": len(tokens),
        "text": model.tokenizer.decode(tokens),
        "bytes_sent_per_device": max(traffic.bytes_by_device),
        "first_token_s": first_s,
        "total_s": time.perf_counter() - start,
        "emulated": not single,
    }
    if args.json:
        console.say(
            to_json({**inputs.environment(args.command_line), "model": model.name, "seed": args.seed, **facts}).rstrip()
        )
        return 0
    console.say("")
    where = (
        "on one device"
        if single
        else f"on {devices} virtual devices, {facts['bytes_sent_per_device']:,} bytes sent by each"
    )
    console.remark(f"[{len(ids_T)} tokens read by {facts['strategy']} {where}; {len(tokens)} new ones]")
    return 0


def _stream(text: str, shown: str) -> str:
    """Prints what is new; a character whose bytes are not complete yet waits for the next token."""
    if text.endswith("\ufffd") or not text.startswith(shown):
        return shown
    sys.stdout.write(text[len(shown) :])
    sys.stdout.flush()
    return text


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

"""Time to first token of llama.cpp, as a peer of ``thinwire bench``.

    thinwire bench ... --peer "llama.cpp=llama-env/bin/python eval/peers/llama_cpp_prefill.py --gguf bf16.gguf"

Needs llama-cpp-python, in an environment of its own, and nothing of thinwire. A pass reads the whole prompt into an
emptied cache and ends with the logits of the last position. The file's type of weights is the type of computing:
``eval/peers/gguf_to_bf16.py`` makes a bfloat16 file of a quantised one.
"""

import argparse
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Loads, says so, and answers each line with the seconds of a pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, required=True, metavar="FILE", help="the model's file")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: the host's cores")
    parser.add_argument("--ubatch", type=int, default=512, help="tokens that go through the layers together (512)")
    parser.add_argument("--context", type=int, default=4096, help="longest prompt (4096)")
    args = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries that print shall not disturb the lines

    import llama_cpp as lib  # pyright: ignore[reportMissingImports]

    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(str(args.gguf).encode(), lib.llama_model_default_params())
    if not model:
        sys.exit(f"{args.gguf} is no model that llama.cpp reads")
    params = lib.llama_context_default_params()
    params.n_ctx = params.n_batch = args.context
    params.n_ubatch = args.ubatch
    params.n_threads = params.n_threads_batch = args.threads
    context = lib.llama_init_from_model(model, params)
    words = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))

    def say(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    about = lib.llama_print_system_info().decode()
    say(ready=True, dtype=file_type(lib, model), threads=args.threads, llama_cpp_python=lib.__version__, system=about)
    for line in sys.stdin:
        tokens = json.loads(line)["tokens"]
        draw = random.Random(0)
        ids = (lib.llama_token * tokens)(*(draw.randrange(words) for _ in range(tokens)))
        begun = time.perf_counter()
        lib.llama_memory_clear(lib.llama_get_memory(context), False)
        failed = lib.llama_decode(context, lib.llama_batch_get_one(ids, tokens))
        if failed:
            say(error=f"llama_decode of {tokens} tokens gave {failed}; is --context {args.context} too short?")
            continue
        first = lib.llama_get_logits_ith(context, -1)[0]  # waits for the pass
        say(seconds=time.perf_counter() - begun, logit=first)


def file_type(lib, model) -> str:
    """What the file's weights are, as llama.cpp says it at the end of a description: such as ``BF16``."""
    import ctypes

    text = ctypes.create_string_buffer(128)
    lib.llama_model_desc(model, text, len(text))
    return text.value.decode().split()[-1]


if __name__ == "__main__":
    main()

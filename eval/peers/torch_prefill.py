"""Time to first token of PyTorch, as a peer of ``thinwire bench``.

    thinwire bench ... --peer "torch-bf16=torch-env/bin/python eval/peers/torch_prefill.py --gguf FILE --dtype bfloat16"

Needs torch and transformers, in an environment of their own, and nothing of thinwire. A pass is one forward of the
whole prompt that ends with the logits of the last position, on the host; nothing is kept for tokens to come. Weights
are read from a GGUF file (``thinwire fetch smollm2-135m`` says where it is), or are random in a vision Transformer's
shape. What is best for torch is done: fused attention, no gradients, a thread for each core that the host has,
``--compile`` for torch.compile.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # an emulated host has no network
VIT_BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
PATCH = 16


def main() -> None:
    """Loads, says so, and answers each line with the seconds of a pass."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--gguf", type=Path, metavar="FILE", help="a language model's file")
    which.add_argument("--shape", choices=["vit-base"], help="random weights of this shape")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="of weights and computing")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: the host's cores")
    parser.add_argument("--compile", action="store_true", help="by torch.compile, once for each length")
    args = parser.parse_args()
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries that print shall not disturb the lines

    import torch  # pyright: ignore[reportMissingImports]
    import transformers  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    prepare = language_model if args.gguf else vision_model
    forward = prepare(torch, transformers, args)
    inputs: dict[int, Any] = {}

    def say(**what: Any) -> None:
        print(json.dumps(what), file=answers, flush=True)

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    say(ready=True, dtype=args.dtype, threads=args.threads, compiled=args.compile, **versions)
    for line in sys.stdin:
        tokens = json.loads(line)["tokens"]
        if tokens not in inputs:
            inputs[tokens] = forward(tokens)
        run = inputs[tokens]
        with torch.inference_mode():
            begun = time.perf_counter()
            run()
            say(seconds=time.perf_counter() - begun)


def language_model(torch, transformers, args):
    """From a length to a pass: logits of the last position of a prompt of random tokens."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        str(args.gguf.parent), gguf_file=args.gguf.name, dtype=getattr(torch, args.dtype), attn_implementation="sdpa"
    ).eval()
    forward = torch.compile(model) if args.compile else model

    def of(tokens: int):
        ids = torch.randint(model.config.vocab_size, (1, tokens), generator=torch.Generator().manual_seed(0))
        return lambda: forward(ids, use_cache=False, logits_to_keep=1).logits[0, -1].float().numpy()

    return of


def vision_model(torch, transformers, args):
    """From a number of tokens to a pass: features of an image of the most nearly square grid, and the class token."""
    compiled = torch.compile if args.compile else lambda model: model

    def of(tokens: int):
        patches = tokens - 1
        rows = max(n for n in range(1, int(patches**0.5) + 1) if patches % n == 0)
        size = (rows * PATCH, patches // rows * PATCH)
        config = transformers.ViTConfig(**VIT_BASE, image_size=size, patch_size=PATCH, attn_implementation="sdpa")
        torch.manual_seed(0)
        model = transformers.ViTModel(config, add_pooling_layer=False).eval().to(getattr(torch, args.dtype))
        pixels = torch.randn((1, 3, *size)).to(getattr(torch, args.dtype))
        forward = compiled(model)
        return lambda: forward(pixels).last_hidden_state[0].float().numpy()

    return of


if __name__ == "__main__":
    main()

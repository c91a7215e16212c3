"""A comparison as `thinwire compare --json` writes it."""

import pytest

MBPS = ("10", "100", "500", "1000")


def make_row(strategy, bits, ratio, seconds=(0.8, 0.8, 0.8, 0.8), **more):
    devices = 1 if strategy == "single" else 4
    row = {
        "strategy": strategy,
        "codec": strategy.split(":")[1] if ":" in strategy else "-",
        "devices": devices,
        "tokens": 1024,
        "bits_per_token_per_layer": bits,
        "bytes_sent_per_device": int(bits * 256 * 30 * (devices - 1) / 8),
        "messages_per_device": 0 if devices == 1 else 90,
        "perplexity": 14.2 * ratio,
        "perplexity_ratio": ratio,
        "kl_to_single": abs(ratio - 1) / 2,
        "top1_agreement": 1 / ratio,
        "max_abs_logit_difference": ratio - 1,
        "emulated_compute_s": 2.5,
        "predicted_latency_s": dict(zip(MBPS, seconds, strict=True)),
        "predicted_speedup": {mbps: 0.8 / second for mbps, second in zip(MBPS, seconds, strict=True)},
    }
    return row | more


@pytest.fixture
def rows():
    return [
        make_row("sequence:vq:groups=16", 320.0, 1.07, (0.98, 0.32, 0.26, 0.25)),
        make_row("tensor:int8", 18932.0, 1.004, (43.8, 4.6, 1.1, 0.67)),
        make_row("sequence:float32", 12288.0, 1.0, (28.6, 3.1, 0.8, 0.53)),
        make_row("single", 0.0, 1.0),
        make_row("ring:vq:groups=16", 320.0, 1.07, (0.98, 0.32, 0.26, 0.25)),
    ]


@pytest.fixture
def document(rows):
    return {
        "model": "smollm2-135m",
        "model_sha256": "ab" * 32,
        "devices": 4,
        "tokens": 1024,
        "split": [256, 256, 256, 256],
        "prompt_source": "wikipedia-excerpt",
        "seed": 0,
        "jax": "0.10.2",
        "python": "3.11.7",
        "platform": "cpu",
        "thinwire": "0.1.0",
        "command": "thinwire compare --model smollm2-135m --devices 4",
        "latency_model": {
            "description": "compute, then bytes over the rate",
            "flops_per_second": 98e9,
            "message_latency_s": 5e-4,
        },
        "rows": rows,
    }

"""Makes the tables of docs/results.md again, one after another; what is measured already is not measured twice.

    python -m eval.results                        all of it: some hours on two cores
    python -m eval.results --only quality,short   these sections
    python -m eval.results --list                 the commands

Every section is a command of its own, which its table names, and keeps its rows in a file below --out: a run that was
broken off goes on where it was. Codebooks that are missing are learnt first, from 24 windows, and models that are
missing below trained/ are trained first, which takes an hour or so each.
"""

import argparse
import json
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from thinwire.cli import console, inputs, main
from thinwire.errors import ThinwireError
from thinwire.training.artefact import read_card
from thinwire.training.checkpoints import latest

ROOT = Path(__file__).parents[1]
PRESETS = "sequence:quality,sequence:balanced,sequence:extreme"
PARTS = (
    "sequence:balanced",
    "sequence:balanced:sink=0",
    "sequence:balanced:halo=0",
    "sequence:balanced:layer0=coded",
    "sequence:balanced:rank=0",
    "sequence:balanced:below=0",
    "sequence:balanced:rotate=joint",
    "sequence:balanced:rotate=apart:axes=0",
    "sequence:balanced:rotate=none:axes=0",
)
ROTATIONS = ",".join(f"sequence:{name}{rotate}" for name in ("quality", "balanced") for rotate in ("", ":rotate=joint"))
AXES = "sequence:balanced,sequence:balanced:axes=0"
HALF = "sequence:pvq:groups=12:size=32:rotate=fisher"  # of the bits of balanced
HALO = ",".join(f"{name}:halo={tokens}" for tokens in (64, 128) for name in ("sequence:balanced", HALF))
# About 32 bits for keys and values of the vision Transformer trained here; the cheapest integers and signs cost more.
KINDS = ",".join(
    f"sequence:{kind}"
    for kind in (
        "vq:groups=8:size=16:site=kv/noise=0",
        "vq:groups=3:size=1024:site=kv/noise=0",
        "rvq:groups=2:size=16:stages=4:site=kv/noise=0",
        "vq:groups=8:size=16:site=kv",
        "fsq:dims=20:levels=3:site=kv/noise=0",
        "lowrank:dims=8:bits=4:site=kv/noise=0",
        "topk:keep=1:bits=8:site=kv/noise=0",
        "means:length=51:bits=8:site=kv/noise=0",
        "pvq:groups=6:size=32:rank=0:site=kv/noise=0",
        "sign:block=192:site=kv/noise=0",
        "int2:block=192:site=kv/noise=0",
    )
)
LEAN = "sequence:balanced,sequence:balanced:halo=0,sequence:balanced:halo=0:rank=128"
_QUALITY = "eval.quality --mesh"
_RESUMABLE = (
    "eval.quality",
    "eval.flow_cut",
    "eval.codecs",
    "eval.loss",
    "eval.weights",
    "eval.ablate",
    "eval.adapters",
)
_GPT2, _GPT2_CODES = "trained/gpt2-small-coded", "sequence:vq:groups=16:size=256:site=x,sequence:int4"
# Adapters that were trained alike, for several codecs of about 120 bits, half of that and a tenth: what is changed of
# the configuration.
_ALIKE = {
    "trained/smollm2-alike-balanced": "",
    "trained/smollm2-alike-rvq": " --recipe.strategy sequence:rvq:groups=6:size=1024:stages=2",
    "trained/smollm2-alike-paper": (
        " --recipe.strategy sequence:vq:groups=12:size=1024:site=x --recipe.noise 1 --recipe.distil 0 "
        "--recipe.commitment 1e-6"
    ),
    "trained/smollm2-alike-fsq": " --recipe.strategy sequence:fsq:dims=75:levels=3",
    "trained/smollm2-alike-vq": " --recipe.strategy sequence:vq:groups=24:size=32",
    "trained/smollm2-alike-topk": " --recipe.strategy sequence:topk:keep=6:bits=8",
    "trained/smollm2-alike-lowrank": " --recipe.strategy sequence:lowrank:dims=30:bits=4",
    "trained/smollm2-alike-means": " --recipe.strategy sequence:means:length=27:bits=8",
    "trained/smollm2-alike-half": f" --recipe.strategy {HALF}",
    "trained/smollm2-alike-extreme": " --recipe.strategy sequence:extreme",
}
SECTIONS = {
    "quality": f"{_QUALITY} --windows 32 --plot docs/quality.png",
    "rotations": f"{_QUALITY} --windows 32 --strategies {ROTATIONS}",
    "axes": f"{_QUALITY} --windows 32 --strategies {AXES}",
    "halo": f"{_QUALITY} --windows 32 --strategies {HALO}",
    "another-kind": f"{_QUALITY} --text moby-dick --windows 16 --strategies {PRESETS}",
    "two-devices": f"{_QUALITY} --devices 2 --windows 6",
    "three-devices": f"{_QUALITY} --devices 3 --windows 6",
    "eight-devices": f"{_QUALITY} --devices 8 --windows 6",
    "uneven": f"{_QUALITY} --split 4/3/2/1 --windows 6",
    "short": f"{_QUALITY} --tokens 256 --windows 32",
    "long": f"{_QUALITY} --tokens 4096 --windows 2",
    "lean": f"{_QUALITY} --windows 8 --strategies {LEAN}",
    "parts": f"{_QUALITY} --windows 8 --strategies {','.join(PARTS)}",
    "embeddings": "eval.embeddings",
    "features": "eval.features",
    "continuations": "eval.continuations --strategies sequence:quality --prompt-tokens 256",
    "flow-cut": "eval.flow_cut --windows 4 --plot docs/flow_cut.png",
    "compressors": "eval.codecs --windows 4 --plot docs/compressors.png",
    "loss": "eval.loss --windows 4 --draws 1 --plot docs/loss.png",
    "weights": "eval.weights --windows 4",
    "accuracy": "eval.accuracy --trained trained/vit-fashion-mnist-g16 --devices 2,3,4,5,6,7,8",
    "accuracy-32": "eval.accuracy --trained trained/vit-fashion-mnist-g32",
    "accuracy-1": "eval.accuracy --trained trained/vit-fashion-mnist-g1",
    "ablation": (
        "eval.ablate configs/vit_fashion_mnist_ablation.py --folder runs/ablate --plot docs/ablation.png "
        "--variants as-configured,noise=0,one-class-token"
    ),
    "compressors-images": (
        "eval.codecs --trained trained/vit-fashion-mnist --bits 32,96 --windows 500 --learn-views 2000 "
        "--plot docs/compressors_images.png"
    ),
    "compressors-trained": (
        "eval.ablate configs/vit_fashion_mnist_ablation.py --folder runs/kinds --plot docs/compressors_trained.png "
        f"--seeds 0 --variants {KINDS}"
    ),
    "flow-cut-images": (
        "eval.flow_cut --trained trained/vit-fashion-mnist --windows 500 --learn-views 2000 "
        "--codecs vq:groups=4:size=64,vq:groups=16:size=64,vq:groups=48:size=64,vq:groups=96:size=64,int4,int8 "
        "--plot docs/flow_cut_images.png"
    ),
    "adapter": (
        f"{_QUALITY} --trained trained/smollm2-balanced "
        f"--strategies sequence:balanced,sequence:balanced:halo=64,{HALF}:halo=64"
    ),
    "adapter-compact": (
        f"{_QUALITY} --windows 8 --trained trained/smollm2-compact "
        "--strategies sequence:pvq:groups=24:size=32:rank=128:rotate=fisher:bottleneck=160:axes=72"
    ),
    **{
        name: f"{_QUALITY} --devices {devices} --tokens 512 --windows 32 --trained {_GPT2} --strategies {_GPT2_CODES}"
        for name, devices in (("gpt2", 4), ("gpt2-eight", 8))
    },
    "adapters": f"eval.adapters --mesh --trained {','.join(_ALIKE)}",
}
_LEARN = "configs/smollm2_codebooks.py"
CODEBOOKS = {
    "quality": _LEARN,
    "rotations": _LEARN,
    "axes": _LEARN,
    "halo": _LEARN,
    "parts": "configs/smollm2_parts.py",
}
# What a section needs, and what makes it; each of these may need another.
_GPT2_BASE = "trained/gpt2-small"
_SHIFTED, _IN_PLACE = "trained/vit-fashion-mnist-shifted", "trained/vit-fashion-mnist-in-place"
_ADAPTER, _COMPACT = "trained/smollm2-balanced", "trained/smollm2-compact"
_VIT, _VIT_16 = "trained/vit-fashion-mnist", "trained/vit-fashion-mnist-g16"
_VIT_32, _VIT_1 = "trained/vit-fashion-mnist-g32", "trained/vit-fashion-mnist-g1"
NEEDS = {
    "accuracy": (_VIT_16,),
    "accuracy-32": (_VIT_32,),
    "accuracy-1": (_VIT_1,),
    **dict.fromkeys(("ablation", "compressors-images", "compressors-trained", "flow-cut-images"), (_VIT,)),
    "adapter": (_ADAPTER,),
    "adapter-compact": (_COMPACT,),
    "adapters": tuple(_ALIKE),
    **dict.fromkeys(("gpt2", "gpt2-eight"), (_GPT2,)),
    _GPT2: (_GPT2_BASE,),
    _VIT: (_IN_PLACE,),
    _IN_PLACE: (_SHIFTED,),
    **dict.fromkeys((_VIT_16, _VIT_32, _VIT_1), (_VIT,)),
}
_CODED = "train.vit_fashion_mnist configs/vit_fashion_mnist_coded.py"
_LM = "train.lm_smollm2_adapter configs/lm_smollm2_adapter.py"


def _four(name: str, codec: str) -> str:
    """Trains for four devices with another codec."""
    folders = f"--session.folder runs/{name} --out trained/{name}"
    return f"{_CODED} --recipe.devices 4 --optimiser.steps 1000 --recipe.strategy sequence:{codec}:site=x {folders}"


TRAINED = {
    _SHIFTED: "train.vit_fashion_mnist configs/vit_fashion_mnist.py",
    _IN_PLACE: "train.vit_fashion_mnist configs/vit_fashion_mnist_in_place.py",
    _VIT: "train.vit_fashion_mnist configs/vit_fashion_mnist_erased.py",
    _VIT_16: _CODED,
    _VIT_32: _four("vit-fashion-mnist-g32", "vq:groups=32:size=64"),
    _VIT_1: _four("vit-fashion-mnist-g1", "vq:groups=1:size=1024"),
    _ADAPTER: _LM,
    _COMPACT: "train.lm_smollm2_adapter configs/lm_smollm2_compact.py",
    _GPT2_BASE: "train.gpt2_small_from_scratch configs/gpt2_small_from_scratch.py",
    _GPT2: "train.gpt2_small_from_scratch configs/gpt2_small_coded.py",
    **{
        out: f"{_LM} --optimiser.steps 24 --session.folder runs/{out.removeprefix('trained/')} --out {out}{changes}"
        for out, changes in _ALIKE.items()
    },
}


def run(arguments: list[str]) -> int:
    """Runs the commands of the sections that are not there yet."""
    parser = argparse.ArgumentParser(
        prog="python -m eval.results", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="A,B,...", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--docs", default="docs/results.md", metavar="FILE", help="default: %(default)s")
    parser.add_argument(
        "--out", default="out/results", metavar="DIR", help="where rows are kept (default: %(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="show the commands, run nothing")
    args = parser.parse_args(arguments)
    names = [name for name in args.only.split(",") if name] if args.only else list(SECTIONS)
    for name in names:
        if name not in SECTIONS:
            raise ThinwireError(f"there is no section {name!r}; there are {', '.join(SECTIONS)}.")
        inputs.check_section(args.docs, name)
    inputs.check_outputs(f"{args.out}/any.json")
    Path(args.out).mkdir(parents=True, exist_ok=True)
    for name in names:
        for command in commands(name, args.docs, Path(args.out)):
            console.say(shlex.join(["python", *command]))
            if not args.list and (code := subprocess.run([sys.executable, *command], check=False).returncode):
                raise ThinwireError(f"section {name} ended with exit code {code}; what it found before is kept.")
    return 0


def commands(name: str, docs: str, out: Path) -> list[list[str]]:
    """What makes a section, without what is done already."""
    place = out / f"{name}.json"
    measure = ["-m", *shlex.split(SECTIONS[name]), "--docs", docs, "--section", name, "--json", str(place)]
    done = _done(place, NEEDS.get(name, ()))
    if done is not None:
        if SECTIONS[name].startswith(_RESUMABLE):
            measure.append("--resume")
        elif done.get("command") == shlex.join(["python", *measure]):
            return []
    learn = ["-m", "train.codebooks", CODEBOOKS[name]] if name in CODEBOOKS and done is None else None
    return [*training(*NEEDS.get(name, ())), *([learn] if learn else []), measure]


def _done(place: Path, needed: tuple[str, ...]) -> dict[str, Any] | None:
    """What an earlier run has kept; None where there is nothing, or what it measured has been trained anew since."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if len(needed) == 1 and (not Path(needed[0]).exists() or found.get("model_sha256") != read_card(needed[0]).sha256):
        return None
    return found if isinstance(found, dict) else None


def training(*wanted: str) -> list[list[str]]:
    """What makes trained artefacts, and first what each needs; nothing for those that are there.

    A training that was broken off goes on.
    """
    missing = [name for name in wanted if not Path(name).exists()]
    return [command for name in missing for command in (*training(*NEEDS.get(name, ())), _train(name))]


def _train(name: str) -> list[str]:
    command = ["-m", *shlex.split(TRAINED[name])]
    config = runpy.run_path(str(ROOT / command[2]))["CONFIG"]
    given = command[command.index("--session.folder") + 1] if "--session.folder" in command else None
    folder = given or config.session.folder
    return [*command, "--session.resume"] if latest(folder) is not None else command


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))

"""Get a model's files from the Hugging Face Hub, through its own package and cache."""

from pathlib import Path

from thinwire.errors import ThinwireError

_FILES = [
    "config.json", "generation_config.json", "tokenizer.json",
    "model.safetensors", "model-*.safetensors", "model.safetensors.index.json",
]  # fmt: skip


def fetch_from_hub(repo: str) -> Path:
    """The local folder of a Hub model ``org/name``: configuration, tokenizer and safetensors, downloaded if needed.

    Raises:
        ThinwireError: the package is not installed, the Hub cannot be reached, or it has no such model for you.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as e:
        raise ThinwireError(
            f"{repo} looks like a Hugging Face Hub id, which needs the package huggingface_hub: "
            "pip install 'thinwire[hub]', or give the path of a folder"
        ) from e
    try:
        return Path(snapshot_download(repo, allow_patterns=_FILES))
    except Exception as e:  # its errors come from several packages and change between versions
        kind = type(e).__name__
        if kind == "GatedRepoError":
            why = "its owner must grant you access first (then `hf auth login`)"
        elif kind in ("RepositoryNotFoundError", "HFValidationError"):
            why = "the Hub knows no such model (or it is private: `hf auth login`)"
        elif isinstance(e, OSError) and e.errno == 28:
            why = "the disk of the Hub's cache is full (set HF_HOME to a folder on another disk)"
        else:
            first = (str(e).strip().splitlines() or [""])[0][:200]
            why = f"the Hub cannot be reached from here and no copy is cached ({kind}: {first})"
        raise ThinwireError(f"cannot fetch {repo}: {why}; or give the path of a local folder") from e

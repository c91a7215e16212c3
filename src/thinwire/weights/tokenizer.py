"""Text to token ids and back, from a GGUF file's fields or a Hugging Face ``tokenizer.json``."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsInt

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from thinwire.errors import ThinwireError

_CONTROL, _USER_DEFINED = 3, 4  # GGUF's token types that are never split

# What a chat model ends its turn with, under the names in use; a file's metadata names only one of them.
_END_NAMES = ("<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|eom_id|>")

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# How text is cut before byte pairs are merged, by the name in GGUF's tokenizer.ggml.pre: patterns applied in turn.
_CUTS: dict[str, tuple[str, ...]] = {
    "smollm": (r"\p{N}", _GPT2),
    "gpt-2": (_GPT2,),
    "default": (r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
    "llama-bpe": (_LLAMA3,),
}


class TextTokenizer:
    """A tokenizer as models use it; wraps ``tokenizers.Tokenizer``.

    Attributes:
        vocab: number of ids.
        eos_ids: ids that end a text.
        prefix, suffix: ids that the model wants before and behind any text (a BOS token, or none; BERT's [CLS], [SEP]).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        eos_ids: Sequence[int] = (),
        prefix: Sequence[int] = (),
        suffix: Sequence[int] = (),
    ):
        self._tokenizer = tokenizer
        self.eos_ids = tuple(eos_ids)
        self.prefix, self.suffix = tuple(prefix), tuple(suffix)
        self.vocab: int = tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """The ids of a text between ``prefix`` and ``suffix``. Names of control tokens in it become those tokens."""
        return [*self.prefix, *self._tokenizer.encode(text, add_special_tokens=False).ids, *self.suffix]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of several texts, without ``prefix`` and ``suffix``, on all cores."""
        return [e.ids for e in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[SupportsInt]) -> str:
        """The text of some ids; control tokens are left out, bytes that are no UTF-8 become U+FFFD."""
        return self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)


def from_gguf(meta: Mapping[str, Any], path: Path) -> TextTokenizer:
    """The tokenizer in the metadata of a GGUF file (byte-level BPE).

    Raises:
        ThinwireError: another kind of tokenizer, an unknown way of cutting text, or fields missing or damaged.
    """
    kind = meta.get("tokenizer.ggml.model")
    if kind != "gpt2":
        raise ThinwireError(
            f"the tokenizer in {path} is of kind {kind!r}, and only byte-level BPE ('gpt2') is supported: "
            "use the model's safetensors folder with its tokenizer.json"
        )
    pre = meta.get("tokenizer.ggml.pre", "default")
    if pre not in _CUTS:
        raise ThinwireError(
            f"the tokenizer in {path} cuts text by the unknown rule {pre!r} (known: {', '.join(_CUTS)}): "
            "use the model's safetensors folder with its tokenizer.json"
        )
    tokens, merges, types = (meta.get(f"tokenizer.ggml.{name}", []) for name in ("tokens", "merges", "token_type"))
    if not (tokens and _all(tokens, str) and _all(merges, str) and _all(types, int)):
        raise ThinwireError(
            f"the tokenizer in {path} is incomplete: its tokens or merges are missing or damaged: fetch it again"
        )
    pairs = [tuple(m.split(" ")) for m in merges]
    try:
        tokenizer = Tokenizer(
            models.BPE({t: i for i, t in enumerate(tokens)}, pairs, ignore_merges=pre == "llama-bpe")  # pyright: ignore[reportArgumentType]
        )
    except Exception as e:  # the package raises bare exceptions
        raise ThinwireError(f"the tokenizer in {path} is damaged: fetch it again") from e
    cuts: list[Any] = [pre_tokenizers.Split(Regex(cut), "isolated") for cut in _CUTS[pre]]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, types, strict=False) if kind == _CONTROL]
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in special])
    defined = [t for t, kind in zip(tokens, types, strict=False) if kind == _USER_DEFINED]
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in defined])
    ends = [meta.get(f"tokenizer.ggml.{name}_token_id") for name in ("eos", "eot", "eom")]
    bos = meta.get("tokenizer.ggml.bos_token_id")
    add_bos = meta.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe")
    prefix = [bos] if add_bos and isinstance(bos, int) else []
    return TextTokenizer(tokenizer, _end_ids(tokenizer, ends), prefix)


def _all(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(isinstance(v, kind) for v in values)


def _end_ids(tokenizer: Tokenizer, named: Sequence[Any]) -> list[int]:
    known = (tokenizer.token_to_id(name) for name in _END_NAMES)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    return sorted({i for i in (*named, *known) if isinstance(i, int) and 0 <= i < size})


def from_tokenizer_json(path: Path, eos_ids: Sequence[Any] = ()) -> TextTokenizer:
    """The tokenizer of a Hugging Face ``tokenizer.json``.

    Args:
        path: the file.
        eos_ids: what the model's configuration says ends a text.

    Raises:
        ThinwireError: the file is missing or damaged.
    """
    if not path.is_file():
        raise ThinwireError(f"there is no {path}: the tokenizer belongs beside the weights")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as e:  # the package raises bare exceptions
        raise ThinwireError(f"{path} is not a readable tokenizer ({e}): fetch it again") from e
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ends = _end_ids(tokenizer, eos_ids)
    prefix, suffix = _around(tokenizer)
    # A text to be continued is not ended, whatever the file would put behind it.
    return TextTokenizer(tokenizer, ends, *([i for i in ids if i not in ends] for ids in (prefix, suffix)))


def _around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that the file puts before and behind a text."""
    alone = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a").ids
    for start in range(len(whole) - len(alone) + 1):
        if alone and whole[start : start + len(alone)] == alone:
            return whole[:start], whole[start + len(alone) :]
    return tokenizer.encode("").ids, []

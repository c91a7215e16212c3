"""Facts about the real checkpoint, fetched and cached by this run."""

import time

import pytest
from tokenizers import Tokenizer, pre_tokenizers

from thinwire.data.wikipedia import documents
from thinwire.data.windows import windows
from thinwire.weights.load import load_model
from thinwire.weights.shapes import SHAPES

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def smollm2():
    return load_model("smollm2-135m")


def test_what_it_is(smollm2):
    assert smollm2.config == SHAPES["smollm2-135m"]
    assert smollm2.params["layers"]["wq"].shape == (30, 576, 9, 64)
    assert smollm2.tokenizer.vocab == 49152
    assert smollm2.tokenizer.prefix == ()
    assert smollm2.tokenizer.eos_ids == (0, 2)  # <|endoftext|>, <|im_end|>


def test_ids_are_those_of_the_published_pre_tokenizer(smollm2):
    """SmolLM2's tokenizer.json: single digits, then GPT-2's byte-level rule, both built into the tokenizers package."""
    reference = Tokenizer.from_str(smollm2.tokenizer._tokenizer.to_str())
    reference.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    texts = ["they're  1984½ ٣\n\n\tx ", "naïve 日本語 🙂", *documents("test")[:20]]
    expected = [e.ids for e in reference.encode_batch(texts, add_special_tokens=False)]
    assert smollm2.tokenizer.encode_batch(texts) == expected


@pytest.mark.parametrize("text", ["The capital of France.", "  naïve\n\n\tx = 1234567  ", "日本語 🙂", "don't"])
def test_text_comes_back(smollm2, text):
    assert smollm2.tokenizer.decode(smollm2.tokenizer.encode(text)) == text


def test_digits_stand_alone(smollm2):
    assert len(smollm2.tokenizer.encode("2024")) == 4
    assert smollm2.tokenizer.encode("The capital of France is 1") == [504, 3575, 282, 4649, 314, 216, 33]


def test_the_second_load_is_quick():
    start = time.process_time()
    load_model("smollm2-135m")
    assert time.process_time() - start < 30  # 6 s of processor time where this was written, without type checks


def test_windows_of_wikipedia(smollm2):
    calibration, test = documents("calibration"), documents("test")
    assert len(calibration) + len(test) == 96
    assert not set(calibration) & set(test)
    assert 0.5 < len(calibration) / 96 < 0.7
    cut = windows(test, smollm2.tokenizer, 1024, 8, seed=0)
    assert cut.shape == (8, 1024)
    assert any(smollm2.tokenizer.decode(cut[0])[10:200] in doc for doc in test)

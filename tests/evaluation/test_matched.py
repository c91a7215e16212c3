"""Codecs of every kind at the same bits."""

import pytest

import tiny
from thinwire.codecs import BlockInt, GroupedVQ, Predictive
from thinwire.errors import ThinwireError
from thinwire.evaluation.matched import TOLERANCE, chosen, kinds, matched
from thinwire.strategies import Sequence
from thinwire.strategies.parse import parse_codec

WIDTH = 384  # keys and values of SmolLM2-135M


def test_what_fits_is_near_the_bits_and_can_code_the_rows():
    found = matched(WIDTH, 240.0)
    assert {one.kind for one in found} == set(kinds(WIDTH))
    for one in found:
        assert one.bits == one.codec.bits_per_token(WIDTH)
        assert one.fits == (abs(one.bits / 240 - 1) <= TOLERANCE)
        one.codec.check(WIDTH)
    fits = {one.kind: one.codec.spec() for one in found if one.fits}
    assert fits["vq, 1024 codewords"] == "vq:groups=24:size=1024"
    assert fits["vq, 32 codewords"] == "vq:groups=48:size=32"
    assert fits["lowrank, 8 bits"] == "lowrank:dims=30"
    assert fits["predict+vq, 32 codewords"] == "pvq:groups=48:size=32"
    nearest = {one.kind: one.bits for one in found if not one.fits}
    assert nearest["int2"] == 2 * WIDTH + 32  # one block a row
    assert nearest["sign"] == WIDTH + 16
    assert not {"int8", "int4"} & set(fits)


def test_every_codec_is_one_that_a_user_can_write():
    for one in matched(WIDTH, 240.0):
        assert parse_codec(one.codec.spec()) == one.codec


def test_predictions_do_without_tokens_where_they_are_not_known():
    codecs = chosen(WIDTH, [240.0], knows_tokens=False)
    ranks = {codec.rank for codec in codecs if isinstance(codec, Predictive)}
    assert ranks == {0}
    assert {codec.rank for codec in chosen(WIDTH, [240.0]) if isinstance(codec, Predictive)} == {256}


def test_several_rates_bring_each_codec_once():
    both = chosen(WIDTH, [240.0, 250.0])
    assert len(set(both)) == len(both)
    assert set(chosen(WIDTH, [240.0])) <= set(both)
    assert BlockInt(8, WIDTH) in chosen(WIDTH, [3104.0])
    assert GroupedVQ(24, 1024) in chosen(WIDTH, [240.0], tolerance=0.0)


def test_all_of_them_fit_a_strategy():
    for codec in chosen(48, [40.0], tolerance=0.3):
        Sequence(codec, site="kv").check(tiny.dims())


def test_no_bits_are_refused():
    with pytest.raises(ThinwireError, match="0 bits hold nothing"):
        matched(WIDTH, 0.0)

"""Every collective on virtual devices, on a mesh, and in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinwire.codecs import BlockInt, Float, GroupedVQ
from thinwire.wire import collectives, ledger
from thinwire.wire.audit import audit_hlo
from thinwire.wire.spmd import fetch, make_mesh, put, spmd

CODECS = {"float32": Float("float32"), "int8": BlockInt(8, 8), "vq": GroupedVQ(2, 8)}
D = 16


def run(function, where, *arrays):
    """``function`` of each device's slice, as one array (or tree) with a leading axis of devices."""
    sharded = (True,) * len(arrays)
    return fetch(jax.jit(spmd(function, where, sharded))(*put(arrays, where, sharded)))


def both(function, devices, *arrays):
    """On virtual devices; the mesh has to give the same bits."""
    virtual, real = run(function, devices, *arrays), run(function, make_mesh(devices), *arrays)
    jax.tree.map(np.testing.assert_array_equal, virtual, real)
    return virtual


def random_payload(devices):
    rng = np.random.default_rng(0)
    return (
        rng.integers(0, 256, (devices, 5), np.uint8),
        rng.standard_normal((devices, 2, 3)).astype(np.float16),
    )


@pytest.mark.parametrize("devices", [1, 2, 3, 8])
def test_all_gather_ring_and_halo_move_whole_payloads(devices):
    codes, steps = random_payload(devices)

    def all_three(codes, step):
        payload = {"codes": codes, "step": step}
        before, after = collectives.halo(payload, "kv")
        return collectives.all_gather(payload, "kv"), collectives.start_ring_shift(payload, "kv").wait(), before, after

    gathered, shifted, before, after = both(all_three, devices, codes, steps)
    for name, sent in (("codes", codes), ("step", steps)):
        nothing = np.zeros_like(sent[:1])
        np.testing.assert_array_equal(gathered[name], np.stack([sent] * devices))
        np.testing.assert_array_equal(shifted[name], np.roll(sent, 1, axis=0))
        np.testing.assert_array_equal(before[name], np.concatenate([nothing, sent[:-1]]))
        np.testing.assert_array_equal(after[name], np.concatenate([sent[1:], nothing]))


@pytest.mark.parametrize(
    ("devices", "bytes_", "pieces"), [(2, 1000, 1), (2, 1024, 1), (2, 3001, 3), (2, 50_000, 4), (3, 3001, 1)]
)
def test_long_packets_between_two_hosts_travel_in_pieces(devices, bytes_, pieces, monkeypatch):
    """And the bytes are those of the whole; more hosts than two have no use for it."""
    monkeypatch.setattr(collectives, "PIECE_BYTES", 1024)
    monkeypatch.setattr(collectives, "MOST_PIECES", 4)
    codes = np.random.default_rng(0).integers(0, 256, (devices, bytes_), np.uint8)
    halves = np.random.default_rng(1).standard_normal((devices, 11, bytes_ // 11)).astype(np.float16)

    def gather(codes, halves):
        return collectives.all_gather({"codes": codes}, "kv"), collectives.all_gather({"halves": halves}, "kv")

    of_codes, of_halves = both(gather, devices, codes, halves)
    np.testing.assert_array_equal(of_codes["codes"], np.stack([codes] * devices))
    np.testing.assert_array_equal(of_halves["halves"], np.stack([halves] * devices))
    mesh = make_mesh(devices)
    program = jax.jit(spmd(lambda codes: collectives.all_gather({"codes": codes}, "kv"), mesh, (True,)))
    audit = audit_hlo(program.lower(put(codes, mesh, True)).compile().as_text())
    assert audit.count() == pieces
    assert audit.bytes_by_device() == (bytes_ * (devices - 1),) * devices


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize(("devices", "rows"), [(3, 7), (8, 5)])
def test_reductions_equal_numpy_on_what_was_decoded(name, devices, rows):
    codec = CODECS[name]
    params = {"codebook": jax.random.normal(jax.random.key(1), (2, 8, D // 2))} if name == "vq" else {}
    x = np.random.default_rng(2).standard_normal((devices, rows, D)).astype(np.float32)

    def reductions(x_TD):
        scattered = collectives.reduce_scatter(x_TD, codec, params, "mlp_out")
        return scattered, collectives.all_reduce(x_TD, codec, params, "mlp_out")

    scattered, reduced = both(reductions, devices, x)
    part = -(-rows // devices)
    padded = np.pad(x, ((0, 0), (0, part * devices - rows), (0, 0))).reshape(devices, devices, part, D)
    see = lambda x_TD: codec.decode(params, codec.encode(params, x_TD), *x_TD.shape)  # what a receiver sees
    decoded = np.array(jax.jit(jax.vmap(see))(padded.reshape(-1, part, D))).reshape(padded.shape)
    own = np.arange(devices)
    decoded[own, own] = padded[own, own]
    sums = decoded.astype(np.float64).sum(axis=0)
    np.testing.assert_allclose(scattered, sums, atol=2e-6)
    whole = np.asarray(jax.jit(jax.vmap(see))(scattered))
    for replica in reduced:  # bit for bit the same on every device
        np.testing.assert_array_equal(replica, reduced[0])
    # A sum that differs in its last bit may fall to the neighbouring code, so it is the run's own sums that are coded.
    np.testing.assert_allclose(reduced[0], whole.reshape(-1, D)[:rows], atol=2e-6)


def test_reduction_of_one_device_is_not_coded():
    x = np.random.default_rng(0).standard_normal((1, 4, D)).astype(np.float32)
    np.testing.assert_array_equal(run(lambda x: collectives.all_reduce(x, BlockInt(2), {}, "s"), 1, x), x)


@pytest.mark.parametrize("devices", [1, 4])
def test_ledger_counts_every_message(devices):
    codes, steps = random_payload(devices)

    def everything(codes, step):
        payload = {"codes": codes, "step": step}
        collectives.all_gather(payload, "a")
        with ledger.repeated(3):
            collectives.start_ring_shift(payload, "b").wait()
        collectives.halo(payload, "c")
        return collectives.reduce_scatter(step.astype(jnp.float32).reshape(2, 3), Float("float16"), {}, "d")

    with ledger.recording() as record, ledger.layers(range(2)):
        jax.jit(spmd(everything, devices, (True, True))).lower(codes, steps)
    others, size = devices - 1, 5 + 12
    part = -(-2 // devices) * 3 * 2
    ends = [1] + [2] * (devices - 2) + [1] if devices > 1 else [0]
    expected = [2 * (others * size + 3 * size + k * size + others * part) for k in ends]
    assert record.bytes_by_device() == tuple(expected)
    assert record.messages_by_device() == tuple(2 * (others + 3 + k + others) for k in ends)
    assert record.by_layer() == {0: sum(expected) // 2, 1: sum(expected) // 2}
    assert {entry.site for entry in record.entries} == {"a", "b", "c", "d"}


def test_nothing_is_recorded_outside():
    with ledger.recording() as record:
        pass
    jax.jit(spmd(lambda x: collectives.start_ring_shift({"x": x}, "kv").wait(), 2, (True,))).lower(
        np.zeros((2, 3), np.float32)
    )
    assert record.entries == []
    assert record.bytes_by_device() == ()

"""One process of several: trains the tiny model for some steps on a mesh of all of them and saves what it got."""

import sys

import jax

STEPS = 20
SPEC = "sequence:vq:groups=4:size=16"


def main(index: int, count: int, port: int, folder: str) -> None:
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
    try:
        import numpy as np

        from thinwire.training.place import Place
        from thinwire.wire.spmd import make_mesh

        assert jax.local_device_count() == 1
        assert jax.device_count() == count
        found = trained(count, Place(make_mesh(count), "tokens"))
        np.savez(f"{folder}/found{index}.npz", **found)
    finally:
        jax.distributed.shutdown()


def trained(count, place):
    """Losses of all steps, and the codebooks and counts that came of them."""
    import numpy as np

    from thinwire.training import loop
    from thinwire.training.loop import Pace
    from thinwire.training.recipe import Recipe
    from training_setups import state_of, text_setup, texts

    setup = text_setup(Recipe(SPEC, devices=(count,)), steps=STEPS)
    losses = []
    note = lambda step, record: losses.append(record["loss"])
    state = loop.run(setup, state_of(setup), texts(setup, 2), Pace(batch=2), place, progress=note)
    averages = state.averages["kv"]
    return {
        "losses": np.asarray(losses),
        "codebook": np.asarray(state.codecs["kv"]["codebook"]),
        "counts": np.asarray(averages["counts"]),
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

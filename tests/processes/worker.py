"""One process of several: runs the tiny model by each strategy on a mesh of all of them and saves what it got."""

import sys

import jax


def main(index: int, count: int, port: int, folder: str) -> None:
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
    try:
        import numpy as np

        import tiny
        from thinwire.wire import connecting, streams
        from thinwire.wire.spmd import fetch, make_mesh, put

        assert jax.local_device_count() == 1
        assert jax.device_count() == count
        mesh = make_mesh(count)
        found = {}
        rows = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
        tree = put({"split": rows, "same": rows}, mesh, {"split": True, "same": False})
        assert [s.data.shape for s in tree["split"].addressable_shards] == [(1, 3)]
        for name, values in fetch(tree).items():
            np.testing.assert_array_equal(values, rows, err_msg=name)
        for number, (spec, split) in enumerate(runs(count)):
            found[f"logits{number}"] = tiny.engine(spec, mesh, split).logits(tiny.ids())
        found |= {f"tokens_{decode}": np.array(tokens) for decode, tokens in generated(count, mesh).items()}
        connecting.open_between_hosts("127.0.0.1", 60)
        for number, (spec, split) in enumerate(streamed(count)):
            engine, before = tiny.engine(spec, mesh, split), streams.between(count).sent_bytes
            found[f"streamed{number}"] = engine.logits(tiny.ids())
            found[f"sent{number}"] = streams.between(count).sent_bytes - before
            found[f"counted{number}"] = engine.lower(len(tiny.ids()))[1].bytes_by_device()[index]
            found[f"formula{number}"] = engine.traffic(len(tiny.ids())).bytes_by_device[index]
        found["other_inputs"] = fails_of_other_inputs(index, count, mesh)
        streams.close_between_hosts()
        np.savez(f"{folder}/found{index}.npz", **found)
    finally:
        jax.distributed.shutdown()


def fails_of_other_inputs(index: int, count: int, mesh) -> str:
    """What this host says of a pass that one host makes of another prompt than the others."""
    import tiny
    from thinwire.wire.spmd import put

    engine, ids_T = tiny.engine("ring:int8", mesh), tiny.ids()
    engine.prepare(len(ids_T), "last")
    mine_T = ids_T[::-1].copy() if index == count - 1 else ids_T
    try:
        jax.block_until_ready(engine.dispatch(put(mine_T, mesh, False)))
    except jax.errors.JaxRuntimeError as error:
        return str(error)
    return "went well"


def runs(count: int):
    """Strategies, and the split of the tokens; few where many processes share the cores."""
    uneven = tuple(float(n + 1) for n in range(count))
    vq = [("sequence:vq:groups=6:size=16", uneven)]
    return vq if count > 2 else [*vq, ("ring:int8", None), ("tensor:float32", None)]


def streamed(count: int):
    """The same for packets that go through connections of their own; zigzag devices look at some of what is later."""
    uneven = tuple(float(n + 1) for n in range(count))
    all_ways = [("sequence:vq:groups=6:size=16", uneven), ("ring:int8", None), ("tensor:float32", None)]
    more = [("sequence:pvq:groups=6:size=16", None), ("sequence:means:length=2:layout=zigzag", None)]
    return (
        [*all_ways, ("sequence:pvq:groups=6:size=16", uneven)]
        if count > 2
        else [*all_ways, *more, ("ring:bfloat16:chunks=2", uneven)]
    )


def generated(count: int, mesh) -> dict[str, list[int]]:
    """Tokens that only follow if every process has the whole cache, or hears what the others attend to."""
    import tiny
    from thinwire.generation import generate

    if count > 2:  # many processes share the cores
        return {"one": [], "all": []}
    engine = tiny.engine("sequence:float32", mesh)
    return {how: list(generate(engine, tiny.ids(13), 4, decode=how)) for how in ("one", "all")}


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

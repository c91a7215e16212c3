"""One step of training: a forward pass by the strategy itself, gradients, and what moves with the rows."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from thinwire.engine import Codecs
from thinwire.kernels.choice import using
from thinwire.layout import TokenLayout
from thinwire.models.families import FAMILIES
from thinwire.models.stack import unstack
from thinwire.strategies import Setting, Single
from thinwire.training import averages
from thinwire.training.coded import NOISE, trained
from thinwire.training.optimiser import Optimiser
from thinwire.training.place import Place
from thinwire.training.recipe import Recipe
from thinwire.training.tasks import Task, own_positions
from thinwire.training.train_state import TrainState
from thinwire.training.trainable import Trainable
from thinwire.weights.load import LoadedModel
from thinwire.wire.spmd import spmd

Batch = Mapping[str, Array]  # ``inputs`` (A, B, T, ...): A parts after one another, of B examples side by side
NOISE_KEY, REVIVAL_KEY = 0, 1


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """All that is fixed while a model is trained.

    Attributes:
        model: whose family and configuration are trained; its weights are the teacher's.
        dtype: of computation; what is trained stays float32.
        remat: layers are computed again on the way back instead of kept.
        unrolled: every layer has its own piece of program, so that nothing is copied into stacks of layers and out of
            them: a third faster on a CPU for a few layers, and slower to compile.
    """

    model: LoadedModel
    recipe: Recipe
    task: Task
    trainable: Trainable
    optimiser: Optimiser
    tokens: int
    dtype: str = "float32"
    remat: bool = False
    seed: int = 0
    unrolled: bool = False

    def __post_init__(self):
        """Checks that the strategy fits the model."""
        strategy = self.recipe.parsed()
        strategy.check(self.dims)
        self.recipe.layouts(strategy, self.dims, self.tokens, self.seed)

    @property
    def family(self):
        """The module of the model's family."""
        return FAMILIES[self.model.family]

    @property
    def dims(self):
        """The model's sizes."""
        return self.family.dims(self.model.config)

    @property
    def strategy(self):
        """The strategy as it is trained."""
        recipe = self.recipe
        by_gradient, attention = recipe.codebooks == "gradient", recipe.attention > 0
        parsed = recipe.parsed()
        if isinstance(parsed, Single):
            return trained(parsed, attention=attention, remat=self.remat)
        return trained(parsed, by_gradient=by_gradient, noisy=recipe.noisy, attention=attention, remat=self.remat)

    @property
    def has_teacher(self) -> bool:
        """Whether the single device's outputs are wanted."""
        return self.recipe.attention > 0 or self.recipe.distil > 0


def start_state(setup: Setup, codecs: Codecs, rows: int) -> TrainState:
    """The state before the first step.

    Args:
        codecs: the codec's arrays by site, as calibration learnt them.
        rows: rows a layer that codebooks will see in a step.
    """
    recipe, codec = setup.recipe, setup.recipe.parsed().codec
    arrays = jax.tree.map(jnp.asarray, averages.in_training(codec, codecs))
    by_gradient = recipe.codebooks == "gradient"
    params = {"model": setup.trainable.start, "codec": arrays if by_gradient else {}}
    dim = setup.dims.site_dim(setup.strategy.sites(setup.dims)[0]) if recipe.noisy else 0
    residuals = averages.start_residuals(setup.dims.layers, dim, recipe.covariance == "full") if recipe.noisy else {}
    counts = averages.start_counts(codec, arrays, rows, recipe.decay) if recipe.codebooks == "ema" else {}
    return TrainState(
        step=jnp.int32(0),
        params=params,
        opt_state=setup.optimiser.make().init(params),
        codecs={} if by_gradient else arrays,
        averages=counts,
        residuals=residuals,
        key=jax.random.key_data(jax.random.key(setup.seed)),
    )


def trained_model(setup: Setup, state: TrainState) -> LoadedModel:
    """The model with its weights as they are now, on the host."""
    params = setup.trainable.merge(state.params["model"], setup.trainable.frozen)
    return dataclasses.replace(setup.model, params=jax.tree.map(np.asarray, params))


def make_step(
    setup: Setup, layout: TokenLayout, place: Place
) -> Callable[[TrainState, Any, Any, Batch], tuple[TrainState, dict[str, Array]]]:
    """The compiled step for one layout.

    Args:
        place: where the layout's devices are.

    Returns:
        From the state, the frozen weights, the teacher's weights ({} without one) and a batch to the next state and
        figures: ``loss``, ``task`` and what else the task tells, ``commitment``, ``gradient`` (norm), and ``finite``
        (L,) and ``finite_gradient`` (L,) by layer.
    """
    optimiser, where = setup.optimiser.make(), place.where(layout)

    def step(state: TrainState, frozen: Any, teacher: Any, batch: Batch):
        parts = jax.tree.leaves(batch)[0].shape[0]
        noise = _noise_of(setup, state)
        random = lambda index: jax.random.fold_in(state.random(NOISE_KEY), index)

        def part(total, numbered):
            index, examples = numbered
            given = (state.codecs, frozen, teacher, noise, examples, random(index))
            loss_of = lambda params: _loss(setup, layout, where, params, *given)
            (_, (metrics, seen)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
            return jax.tree.map(jnp.add, total, gradient), (metrics, seen)

        nothing = jax.tree.map(jnp.zeros_like, state.params)
        total, (metrics_A, seen_A) = jax.lax.scan(part, nothing, (jnp.arange(parts), batch))
        gradient = jax.tree.map(lambda x: x / parts, total)
        with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to whole numbers
            changes, opt_state = optimiser.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        metrics = {name: x.all(axis=0) if x.dtype == bool else x.mean(axis=0) for name, x in metrics_A.items()}
        squares = [jnp.sum(jnp.square(x)) for x in jax.tree.leaves(gradient)]
        metrics["gradient"] = jnp.sqrt(sum(squares, start=jnp.float32(0)))
        metrics["finite_gradient"] = _finite_by_layer(gradient["model"], setup.dims.layers)
        state = state._replace(step=state.step + 1, params=params, opt_state=opt_state)
        return _moved(setup, state, seen_A), metrics

    return jax.jit(step) if place.everywhere is None else jax.jit(step, out_shardings=place.everywhere)


def _loss(setup: Setup, layout, where, params, codecs, frozen, teacher, noise, examples_B, key):
    """The loss of examples side by side, figures, and the rows that averages are taken of."""
    recipe, setting = setup.recipe, Setting(setup.dims, layout)
    count = jax.tree.leaves(examples_B)[0].shape[0]
    keys_B = jax.random.key_data(jax.random.split(key, count))
    device = lambda *given: _of_device(setup, setting, *given)
    found_NB, emitted_NB = spmd(device, where, (False,) * 7)(
        params["model"], frozen, {**codecs, **params["codec"]}, teacher, noise, examples_B, keys_B
    )
    merged = _cast(setup.trainable.merge(params["model"], frozen), setup.dtype)
    loss, metrics = setup.task.loss(merged, setting, found_NB, examples_B)
    metrics["finite"] = emitted_NB["finite"].all(axis=(0, 1))
    if "attention" in emitted_NB:
        distance = emitted_NB["attention"].sum() / jnp.maximum(emitted_NB["attention_scale"].sum(), 1e-30)
        loss, metrics["attention"] = loss + recipe.attention * distance, distance
    seen = {}
    if "coded" in emitted_NB:
        coded = emitted_NB["coded"]
        tokens = jnp.maximum(coded["valid"][:, :, -1].sum(), 1.0)
        commitment, codebook = coded["commitment"].sum() / tokens, coded["codebook"].sum() / tokens
        loss, metrics["commitment"] = loss + recipe.commitment * commitment, commitment
        if recipe.codebooks == "gradient":
            loss = loss + recipe.commitment * codebook
        wanted = [*(["quantised"] if recipe.codebooks == "ema" else []), *(["residual"] if recipe.noisy else [])]
        seen = {name: coded[name] for name in [*wanted, "valid"]} if wanted else {}
    return loss, ({"loss": loss, **metrics}, seen)


def _of_device(setup: Setup, setting, trained, frozen, codecs, teacher, noise, examples_B, keys_B):
    """What one device finds of each example, and what its layers emit."""
    family, config, strategy, model = setup.family, setup.model.config, setup.strategy, setup.dims
    params = _cast(setup.trainable.merge(trained, frozen), setup.dtype)
    if setup.unrolled:
        params = {**params, "layers": unstack(params["layers"])}
    alone = Setting(model, Single().layout(model, setup.tokens, 1, None))
    watching = trained_single(setup)

    def of_example(example, key):
        inputs_T = example["inputs"]
        position_R = strategy.positions(setting)
        rows = inputs_T[jnp.minimum(position_R, setup.tokens - 1)]
        layers = jax.random.key_data(jax.random.split(jax.random.wrap_key_data(key), model.layers))
        arrays = {**codecs, NOISE: {**noise, "key": layers}} if noise else codecs
        with using("jax"):
            x_RD, emitted = family.forward(params, config, rows, position_R, strategy, setting, arrays, prompt=inputs_T)
            known = None
            if setup.has_teacher:
                exact = _cast(teacher, setup.dtype)
                rows_TD, of_teacher = family.forward(exact, config, inputs_T, jnp.arange(setup.tokens), watching, alone)
                known = {"rows": jax.lax.stop_gradient(rows_TD), "params": exact}
                if setup.recipe.attention:
                    emitted |= _attention_distance(setting, emitted, of_teacher)
        return setup.task.of_device(family, params, setting, x_RD, example, known), emitted

    return jax.vmap(of_example)(examples_B, keys_B)


def trained_single(setup: Setup):
    """The teacher's strategy."""
    return trained(Single(), attention=setup.recipe.attention > 0)


def _attention_distance(setting, emitted, of_teacher):
    """Squared distance of own rows' attention outputs to the teacher's, and the teacher's own square, by layer."""
    position_R, counted_R = own_positions(setting)
    wanted_LRE = of_teacher["attention"][:, jnp.minimum(position_R, setting.layout.tokens - 1)]
    wanted_LRE = jax.lax.stop_gradient(wanted_LRE.astype(jnp.float32))
    squares = lambda x_LRE: jnp.sum(jnp.sum(x_LRE**2, axis=2) * counted_R.astype(jnp.float32)[None], axis=1)
    given_LRE = emitted["attention"].astype(jnp.float32)
    return {"attention": squares(given_LRE - wanted_LRE), "attention_scale": squares(wanted_LRE)}


def _noise_of(setup: Setup, state: TrainState) -> dict[str, Array]:
    """What noise is drawn from in this step; {} without noise."""
    recipe = setup.recipe
    if not recipe.noisy:
        return {}
    mean, root = averages.noise_root(state.residuals)
    done = (state.step + 1).astype(jnp.float32) / max(recipe.noise_warmup, 1)
    risen = jnp.minimum(done, 1.0) if recipe.noise_warmup else 1.0
    return {"mean": mean, "root": root, "scale": jnp.full(setup.dims.layers, recipe.noise) * risen}


def _moved(setup: Setup, state: TrainState, seen_A) -> TrainState:
    """The state with its averages moved on by the rows of this step."""
    if not seen_A:
        return state
    recipe = setup.recipe
    valid_Ln = _by_layer(seen_A["valid"][..., None])[:, :, 0]
    stride = max(1, -(-valid_Ln.shape[1] // recipe.statistics))
    some = lambda rows_Ln: rows_Ln[:, ::stride]
    if state.averages:
        key = state.random(REVIVAL_KEY)
        rows = some(_by_layer(seen_A["quantised"]))
        arrays, moved = averages.move_codebooks(key, state.codecs, state.averages, rows, some(valid_Ln), recipe.decay)
        state = state._replace(codecs=arrays, averages=moved)
    if state.residuals:
        rows = some(_by_layer(seen_A["residual"]))
        moved = averages.move_residuals(state.residuals, rows, some(valid_Ln), recipe.decay)
        state = state._replace(residuals=moved)
    return state


def _by_layer(x_ANBLRD: Float[Array, "A N B L R D"]) -> Float[Array, "L n D"]:
    return jnp.moveaxis(x_ANBLRD, 3, 0).reshape(x_ANBLRD.shape[3], -1, x_ANBLRD.shape[-1])


def _finite_by_layer(gradient: Any, layers: int):
    """For each layer whether its gradients are finite."""
    of_layers = jax.tree.leaves(gradient.get("layers", {})) if isinstance(gradient, Mapping) else []
    finite = [jnp.isfinite(x).reshape(layers, -1).all(axis=1) for x in of_layers]
    return jnp.stack(finite).all(axis=0) if finite else jnp.ones(layers, bool)


def _cast(params: Any, dtype: str) -> Any:
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, params)

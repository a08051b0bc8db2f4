"""Vector fields that jump: what a jump does to the distance of two orbits is in no Jacobian, and so in no exponent.

Where an orbit passes a surface at which the field jumps, as in dry friction, tangent vectors are to be multiplied by a
saltation matrix (Aizerman and Gantmakher 1958). It is not computed here; this tells where it is missing.
"""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from curlflow._trees import float64, size
from curlflow.chaos.engine import frames
from curlflow.chaos.engine.runner import Run
from curlflow.chaos.engine.tangent_system import TangentSystem
from curlflow.orbits.integrate import solved
from curlflow.orbits.solve import Problem
from curlflow.system import State

# Operations that may jump when their operand changes a little.
MAY_JUMP = frozenset(
    {"sign", "floor", "ceil", "round", "rem", "select_n", "cond", "argmax", "argmin", "sort"}
)
# Two orbits are followed over so many intervals at most, while their distance falls and grows by less than these factors, in
# natural logarithms: within them neither rounding nor curvature counts.
INTERVALS, LEAST, MOST = 64, -4.0, 7.0
DISTANCE, RTOL = 1e-7, 1e-12
# So far the logarithm of their distance may be from what the tangent vectors say.
AGREES = 0.03
# Larger systems are not asked, and no longer than so many steps.
LARGEST, MOST_STEPS = 1000, 20_000


def passes_jumps(run: Run) -> bool:
    """Whether two orbits beside one another part or approach as the tangent vectors of a run do not tell.

    Only flows of one system are asked that have an operation in them that may jump, at the beginning of what is averaged.
    """
    tangent = run.tangent
    asked = not tangent.is_map and tangent.members is None and tangent.generator is None
    if not asked or size(run.start.y) > LARGEST or not _may_jump(tangent, run.start.y):
        return False
    expected = np.cumsum(run.log_growth[:INTERVALS, 0])
    beyond = np.flatnonzero(~((expected > LEAST) & (expected < MOST)))
    expected = expected[: beyond[0]] if len(beyond) else expected
    if not len(expected):
        return False
    difference = np.abs(_log_distances(run, len(expected)) - expected)
    return bool(np.nanmax(difference, initial=0.0) > AGREES)


@eqx.filter_jit
def _may_jump(tangent: TangentSystem, y: State) -> Bool[Array, ""]:
    """Whether there is an operation in a field that may jump; compiled, so that not every call looks."""
    system: Any = tangent.system
    program = jax.make_jaxpr(lambda t, y: system(t, y, tangent.args))(tangent.t0, y)
    return jnp.asarray(any(name in MAY_JUMP for name in _operations(program.jaxpr)))


def _operations(program: Any) -> Iterator[str]:
    for equation in program.eqns:
        yield equation.primitive.name
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda part: hasattr(part, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            yield from _operations(inner) if hasattr(inner, "eqns") else ()


def _largest(y: State, weights: Any) -> float:
    return float(jnp.max(jnp.abs(ravel_pytree(jax.tree.map(jnp.asarray, y))[0] * weights))) or 1.0


def _log_distances(run: Run, intervals: int) -> Float[np.ndarray, " intervals"]:
    """The logarithm of the distance of two orbits after each of some intervals, as a multiple of the first one."""
    tangent, begin = run.tangent, run.start
    y = jax.tree.map(jnp.asarray, begin.y)
    flat, unravel = ravel_pytree(y)
    frame = tangent.in_state_units(jax.tree.map(jnp.asarray, begin.frame))
    direction = frames.columns(frame)[0]
    weights = 1.0 if tangent.units is None else 1 / ravel_pytree(tangent.units)[0]
    # Of the later state: a run may begin at the origin.
    largest = _largest(run.state.y, weights)
    distance = DISTANCE * largest / jnp.linalg.norm(direction * weights)
    pair = jax.vmap(unravel)(jnp.stack([flat, flat + distance * direction]))
    t0, dt = float(begin.time), float(tangent.dt)
    times = t0 + dt * np.arange(1, intervals + 1)
    problem = Problem(
        t0=float64(t0),
        t1=float64(times[-1]),
        rtol=float64(RTOL),
        atol=float64(RTOL * _largest(run.state.y, 1.0)),
        blow_up=tangent.blow_up,
        args=tangent.args,
        system=tangent.system,  # pyright: ignore[reportArgumentType]
        solver=tangent.solver,  # pyright: ignore[reportArgumentType]
        dtmax=tangent.dtmax,
        is_batch=True,
        max_steps=MOST_STEPS,
    )
    ys = solved(problem, pair, times).ys
    both = np.asarray(jax.vmap(jax.vmap(lambda y: ravel_pytree(y)[0] * weights))(ys))
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.log(np.linalg.norm(both[:, 1] - both[:, 0], axis=1))
    found -= float(jnp.log(distance * jnp.linalg.norm(direction * weights)))
    return np.pad(found, (0, intervals - len(found)), constant_values=np.nan)

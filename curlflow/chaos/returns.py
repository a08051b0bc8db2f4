"""Does an orbit close? How near it comes back to where it was."""

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, PyTree

from curlflow._trees import flatten_states, take
from curlflow.chaos.engine.problem import Problem
from curlflow.chaos.result import LyapunovSpectrum
from curlflow.orbits.integrate import integrate

SAMPLES = 4096
LONGEST_WAIT = 500  # intervals of the spectrum


def closest_return(spectrum: LyapunovSpectrum) -> tuple[float, float] | None:
    """After what time the orbit of a flow first comes back to the final state, and how far off, in units of its extent.

    None if it does not come near.
    """
    problem, t0 = spectrum.run.problem, float(spectrum.times[-1])
    t1 = t0 + min(spectrum.T, LONGEST_WAIT * spectrum.dt)
    orbit = integrate(
        problem.system,
        spectrum.final_state,
        t1,
        t0=t0,
        ts=np.linspace(t0, t1, SAMPLES),
        args=problem.args,
        blow_up=float(problem.blow_up),
        rtol=1e-10,
        atol=1e-13,
    )
    states = flatten_states(orbit.ys)
    distance = np.linalg.norm(states - states[0], axis=1)
    extent = float(distance.max())
    nearest = _first_approach(distance, extent)
    if nearest is None:
        return None
    time, gap = _refined(problem, spectrum.final_state, float(orbit.ts[nearest]), take(orbit.ys, nearest))
    return time - t0, gap / extent


def _first_approach(distance: np.ndarray, extent: float) -> int | None:
    """The nearest sample of the first visit within a tenth of the extent, once the orbit has been away."""
    away = np.flatnonzero(distance > 0.2 * extent)
    if not len(away):
        return None
    near = np.flatnonzero(distance[away[0] :] < 0.1 * extent)
    if not len(near):
        return None
    first = away[0] + near[0]
    leaves = np.flatnonzero(distance[first:] >= 0.1 * extent)
    last = first + leaves[0] if len(leaves) else len(distance)
    return int(first + np.argmin(distance[first:last]))


def _refined(problem: Problem, goal: PyTree[Array], time: float, state: PyTree[Array]) -> tuple[float, float]:
    """Move along the orbit to the point nearest to the goal: its time and its distance."""
    target = np.asarray(ravel_pytree(goal)[0])
    for _ in range(4):
        gap = target - np.asarray(ravel_pytree(state)[0])
        velocity = np.asarray(ravel_pytree(problem.system(jnp.asarray(time), state, problem.args))[0])
        step = float(gap @ velocity / (velocity @ velocity))
        if abs(step) < 1e-12 * abs(time):
            break
        state = integrate(
            problem.system,
            state,
            time + step,
            t0=time,
            ts=[time + step],
            args=problem.args,
            blow_up=float(problem.blow_up),
            rtol=1e-11,
            atol=1e-13,
        ).final_state
        time += step
    return time, float(np.linalg.norm(target - np.asarray(ravel_pytree(state)[0])))

"""Quantities read off orbits."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import ArrayLike, PyTree
from scipy.optimize import brentq

from curlflow import _checks
from curlflow._trees import flatten_states
from curlflow.orbits.integrate import integrate
from curlflow.orbits.trajectory import Trajectory

# The orbit is looked at this often for returns: oscillations faster than t_max over half of it would be missed.
SECTION_SAMPLES = 16385
DENSE_STEPS = 16384


def return_time(
    system: Any,
    y0: PyTree[ArrayLike],
    t_max: float,
    *,
    t0: float = 0.0,
    args: Any = None,
    rtol: float = 1e-11,
    atol: float = 1e-13,
) -> float:
    """The time after which an orbit first returns to the section through its start: the period, if the orbit is closed.

    The section is the hyperplane through y0 at a right angle to the velocity there; a return is a crossing in the direction
    of that velocity, located in the solver's dense output.

    Parameters
    ----------
    system
        A vector field f(t, y, args).
    y0
        A state on the orbit, not a fixed point.
    t_max
        How long to wait for the return, in the flow's units, positive.
    t0
        The initial time.
    args
        Passed on to the system.
    rtol, atol
        Tolerances of the integration.

    Returns
    -------
    float
        The time from t0 to the first return; infinity if there is none before t_max, or if the orbit ends before.

    Raises
    ------
    ValueError
        If y0 is a fixed point, `t_max` is not positive, or as `integrate` does.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> flow, w0 = cf.toy_flow(s=1.0, flip="readout"), jnp.array([1.0, 0.0])
    >>> abs(cf.orbits.return_time(flow, w0, 20.0) - float(flow.period(w0))) < 1e-9
    True
    """
    t_max = _checks.positive_number("t_max", t_max)
    y0 = _checks.flow_state(system, y0, t0, args)
    start = np.asarray(ravel_pytree(y0)[0])
    velocity = np.asarray(ravel_pytree(system(jnp.asarray(t0, jnp.float64), y0, args))[0])
    if not np.any(velocity):
        raise ValueError("`y0` must not be a fixed point, but the velocity there is zero.")
    orbit = integrate(
        system, y0, t0 + t_max, t0=t0, args=args, rtol=rtol, atol=atol, dense=True, max_steps=DENSE_STEPS
    )
    height = _SectionHeight(orbit, start, velocity)
    times = np.linspace(orbit.ts[0], orbit.ts[-1], SECTION_SAMPLES)
    heights = height.many(times)
    crossings = np.flatnonzero((heights[1:-1] < 0) & (heights[2:] >= 0)) + 1
    if not len(crossings):
        return float("inf")
    first = crossings[0]
    return float(brentq(height, times[first], times[first + 1], xtol=1e-14, rtol=1e-15)) - t0  # pyright: ignore[reportArgumentType]


def settling_time(trajectory: Trajectory, loss: float) -> float:
    """The time after which a trajectory's loss stays below a threshold.

    Parameters
    ----------
    trajectory
        A dense trajectory of one initial condition, of a system with a loss.
    loss
        The threshold, positive, in units of the loss.

    Returns
    -------
    float
        The time since the start, located in the solver's dense output between the saved times; 0 if the loss never exceeds
        the threshold, infinity if it still does at the end.

    Raises
    ------
    ValueError
        If the trajectory is a batch or not dense, its system has no loss, or the threshold is not positive.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> flow, w0 = cf.toy_flow(s=1.0, flip="readout"), jnp.array([-1.5, 1.0])
    >>> orbit = cf.integrate(flow, w0, 20.0, dense=True, rtol=1e-10, atol=1e-12)
    >>> abs(cf.orbits.settling_time(orbit, 0.5e-6) - float(flow.settling_time(w0, 1e-3))) < 1e-6
    True
    """
    loss = _checks.positive_number("loss", loss)
    if trajectory.is_batch or trajectory.interpolation is None:
        raise ValueError(
            "`trajectory` must be dense and have one initial condition: integrate with dense=True."
        )
    excess = np.asarray(trajectory.loss()) - loss
    above = np.flatnonzero(excess > 0)
    if not len(above):
        return 0.0
    if above[-1] == len(excess) - 1:
        return float("inf")
    before, after = trajectory.ts[above[-1]], trajectory.ts[above[-1] + 1]

    def excess_at(t: float) -> float:
        return float(trajectory.system.loss(trajectory(t))) - loss

    return float(brentq(excess_at, before, after, xtol=1e-14, rtol=1e-15)) - float(trajectory.ts[0])  # pyright: ignore[reportArgumentType]


class _SectionHeight:
    """How far the orbit is beyond the section at time t."""

    def __init__(self, orbit: Any, start: np.ndarray, velocity: np.ndarray):
        self._orbit, self._start, self._velocity = orbit, start, velocity

    def __call__(self, t: float) -> float:
        return float(self.many(np.array([t]))[0])

    def many(self, times: np.ndarray) -> np.ndarray:
        return (flatten_states(self._orbit(times)) - self._start) @ self._velocity

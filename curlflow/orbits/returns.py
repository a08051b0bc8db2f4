"""Returns of an orbit to where it was, located by events; and when its loss settles."""

from collections.abc import Iterator
from typing import NamedTuple

import equinox as eqx
import jax.tree_util as jtu
import numpy as np
import scipy

from curlflow import _checks
from curlflow._trees import float64, size
from curlflow.orbits.integrate import default_solver, solved
from curlflow.orbits.solve import Problem, Section
from curlflow.orbits.trajectory import Trajectory
from curlflow.outcome import Ending, Outcome
from curlflow.system import Args, Flow, State, StateLike, flow_state, require_known


class Return(NamedTuple):
    """When an orbit is back on the section through its start, and in what state."""

    time: float
    state: State


def return_time(
    system: Flow,
    y0: StateLike,
    t_max: float,
    *,
    t0: float = 0.0,
    args: Args = None,
    rtol: float = 1e-11,
    atol: float = 1e-13,
) -> float:
    """The time after which an orbit first returns to the section through its start: the period, if the orbit is closed.

    The section is the hyperplane through y0 at a right angle to the velocity there; a return is a crossing in the direction
    of that velocity, located within the solver's step by its own interpolation.

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
    y0 = flow_state(system, y0, t0, args, "y0")
    problem = Problem(
        t0=float64(t0),
        t1=float64(t0 + t_max),
        rtol=float64(_checks.relative_tolerance("rtol", rtol)),
        atol=float64(_checks.non_negative_number("atol", atol)),
        blow_up=float64(_checks.blow_up_limit(None, y0)),
        args=args,
        system=system,
        solver=default_solver(size(y0)),
    )
    if not any(map(np.any, jtu.tree_leaves(_velocity(problem, y0)))):
        raise ValueError("`y0` must not be a fixed point, but the velocity there is zero.")
    first = next(section_returns(problem, y0), None)
    return float("inf") if first is None else first.time - t0


def section_returns(problem: Problem, y0: State, periods: State | None = None) -> Iterator[Return]:
    """The returns of the orbit from y0 to the hyperplane through y0 at a right angle to its velocity, one after another.

    `periods` are those of coordinates which are angles, as for a `Section`.
    """
    normal = _velocity(problem, y0)
    found: Return | None = Return(float(problem.t0), y0)
    while found is not None:
        # Every wait begins exactly on the section, which then is not met where the orbit leaves it.
        found = _next_return(problem, Section(found.state, normal, periods), found)
        if found is not None:
            yield found


def _next_return(problem: Problem, section: Section, now: Return) -> Return | None:
    """The next passage in the direction of the section's normal; None if the run ends before."""
    if not now.time < float(problem.t1):
        return None
    wait = eqx.tree_at(
        lambda p: (p.t0, p.section), problem, (float64(now.time), section), is_leaf=lambda leaf: leaf is None
    )
    run = solved(wait, now.state, np.array([float(problem.t1)]))
    assert isinstance(run.outcome, Outcome)
    if run.outcome.ending is not Ending.STOPPED:
        return None
    return Return(float(run.ts[-1]), run.final_state)


@eqx.filter_jit
def _velocity(problem: Problem, y: State) -> State:
    return problem.system(problem.t0, y, problem.args)


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
    _checks.require_made("trajectory", trajectory, Trajectory, "integrate(dense=True)")
    loss = _checks.positive_number("loss", loss)
    if trajectory.is_batch or trajectory.interpolation is None:
        raise ValueError(
            "`trajectory` must be dense and have one initial condition: integrate with dense=True."
        )
    loss_of = require_known(trajectory.system, "loss")
    excess = np.asarray(trajectory.loss()) - loss
    above = np.flatnonzero(excess > 0)
    if not len(above):
        return 0.0
    if above[-1] == len(excess) - 1:
        return float("inf")
    before, after = trajectory.ts[above[-1]], trajectory.ts[above[-1] + 1]

    def excess_at(t: float) -> float:
        return float(loss_of(trajectory(t))) - loss

    return float(scipy.optimize.brentq(excess_at, before, after, xtol=1e-14, rtol=1e-15)) - float(
        trajectory.ts[0]
    )

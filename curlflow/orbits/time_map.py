"""A flow over a fixed time as a map."""

from collections.abc import Callable
from typing import Any, final

import diffrax
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float

from curlflow import _checks
from curlflow.orbits.controller import adaptive_steps
from curlflow.orbits.solvers import Tsit5
from curlflow.system import Args, Flow, State, check_state, handed_on, require_flow

# Most steps of the solver in one step of a flow's map.
MAX_STEPS = 1_000_000


@final
class TimeMap(eqx.Module):
    """A flow over a fixed time as a map: what `iterate` folds its observables over when the system is a flow.

    Parameters
    ----------
    flow
        A vector field f(t, y, args).
    dt
        The time of one step, positive; step n leads from n dt to (n + 1) dt.
    rtol, atol
        Tolerances of the integration.

    Raises
    ------
    ValueError
        If `flow` cannot be called or a number is out of range.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> decay = cf.orbits.TimeMap(lambda t, y, args: -y, dt=2.0)
    >>> bool(abs(decay.step(0, jnp.ones(1))[0] - jnp.exp(-2.0)) < 1e-8)
    True
    """

    flow: Flow
    dt: Float[Array, ""]
    rtol: Float[Array, ""]
    atol: Float[Array, ""]

    def __init__(self, flow: Flow, dt: float, *, rtol: float = 1e-8, atol: float = 1e-10):
        require_flow(flow)
        self.flow = flow
        self.dt, self.rtol = (
            jnp.asarray(_checks.positive_number(name, value), jnp.float64)
            for name, value in (("dt", dt), ("rtol", rtol))
        )
        self.atol = jnp.asarray(_checks.non_negative_number("atol", atol), jnp.float64)

    def step(self, n: Any, y: State, args: Args = None) -> State:
        """The state a time dt later. A solve that fails gives NaN, which `iterate` takes for a blow-up."""
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(self.flow),
            Tsit5(),
            n * self.dt,
            (n + 1) * self.dt,
            None,
            y,
            args,
            stepsize_controller=adaptive_steps(self.rtol, self.atol),
            adjoint=diffrax.ForwardMode(),
            max_steps=MAX_STEPS,
            throw=False,
        )
        failed = solution.result != diffrax.RESULTS.successful
        return jtu.tree_map(lambda leaf: jnp.where(failed, jnp.nan, leaf[-1]), solution.ys)

    @property
    def loss(self) -> Callable[[State], Float[Array, ""]]:
        """The flow's loss; absent where the flow has none."""
        return handed_on(self.flow, "loss")

    def check_state(self, y: State) -> None:
        """Raise ValueError if the flow refuses `y`."""
        check_state(self.flow, y)

"""Step size control: a controller of diffrax, which also repeats steps that overflow, and counts steps."""

from collections.abc import Callable
from typing import Any, NamedTuple, final

import diffrax
import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PyTree

# The shortest step while the clock is still at 0.
SMALLEST_TIME = 1e-290


class StepState(NamedTuple):
    """The controller's own state, the steps taken so far, and how long the next one is to be."""

    own: Any
    taken: Int[Array, ""]
    next_step: Float[Array, ""]


def smallest_step(t: Any) -> Array:
    """A step of a few units in the last place of the clock's present time: below it time stands still."""
    return jnp.maximum(4 * jnp.finfo(jnp.float64).eps * jnp.abs(t), SMALLEST_TIME)


@final
class StepControl(diffrax.AbstractAdaptiveStepSizeController[Any, Any]):
    """A step size controller under which a step that overflows is repeated, and shorter, and which ends after some steps.

    Diffrax divides a step's error by the size of the new state. Where both are infinite the next step's length would be NaN,
    and in a batch, which passes over members that are NaN already, the step would count. The shortest step is that of the
    present time, because a distant end is no reason to step over what happens now.
    """

    controller: diffrax.PIDController
    first_step: Float[Array, ""]
    budget: Int[Array, ""]

    def __init__(self, controller: diffrax.PIDController, first_step: Any, budget: Any):
        self.controller = controller
        self.first_step = jnp.asarray(first_step, jnp.float64)
        self.budget = jnp.asarray(budget)

    @property
    def rtol(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.controller.rtol

    @property
    def atol(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.controller.atol

    @property
    def norm(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.controller.norm

    def wrap(self, direction: Any) -> "StepControl":
        """The same for integration in a direction."""
        return StepControl(self.controller.wrap(direction), self.first_step, self.budget)

    def init(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: PyTree[Array],
        dt0: Any,
        args: Any,
        func: Callable[..., Any],
        error_order: Any,
    ) -> Any:
        """The end of the first step, of the length asked for if that is positive, and the controller's state."""
        end, own = self._at(t0).init(terms, t0, t1, y0, dt0, args, func, error_order)
        end = jnp.where(self.first_step > 0, t0 + self.first_step, end)
        return end, StepState(own, jnp.asarray(0), end - t0)

    def adapt_step_size(
        self,
        t0: Any,
        t1: Any,
        y0: PyTree[Array],
        y1_candidate: PyTree[Array],
        args: Any,
        y_error: PyTree[Array],
        error_order: Any,
        controller_state: StepState,
    ) -> Any:
        """What the wrapped controller decides, shown an infinite error of the old state where the new one overflows."""
        overflows = jtu.tree_map(lambda y0, y1: jnp.isfinite(y0) & ~jnp.isfinite(y1), y0, y1_candidate)
        y1 = jtu.tree_map(jnp.where, overflows, y0, y1_candidate)
        error = jtu.tree_map(lambda overflow, error: jnp.where(overflow, jnp.inf, error), overflows, y_error)
        keep, begin, end, jump, own, result = self._at(t0).adapt_step_size(
            t0, t1, y0, y1, args, error, error_order, controller_state.own
        )
        taken = controller_state.taken + 1
        spent = diffrax.RESULTS.where(
            taken < self.budget, diffrax.RESULTS.successful, diffrax.RESULTS.max_steps_reached
        )
        result = diffrax.RESULTS.where(result == diffrax.RESULTS.successful, spent, result)
        return keep, begin, end, jump, StepState(own, taken, jnp.asarray(end - begin)), result

    def _at(self, t: Any) -> diffrax.PIDController:
        """The wrapped controller with the shortest step that time t allows."""
        return eqx.tree_at(lambda c: c.dtmin, self.controller, smallest_step(t), is_leaf=lambda x: x is None)


def adaptive_steps(
    rtol: Any, atol: Any, *, first_step: Any = 0.0, budget: Any = 2**62, **options: Any
) -> StepControl:
    """Diffrax's proportional–integral–derivative controller, so wrapped.

    The first step is chosen where `first_step` is 0, and the solve ends with `max_steps_reached` after `budget` steps.
    """
    controller = diffrax.PIDController(rtol, atol, **options)
    return StepControl(controller, first_step, budget)

"""Step size control: a controller of diffrax, which also repeats a step that overflows."""

from collections.abc import Callable
from typing import Any, final

import diffrax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, PyTree


@final
class RepeatOverflow(diffrax.AbstractAdaptiveStepSizeController[Any, Any]):
    """A step size controller under which a step that overflows is repeated, and shorter.

    Diffrax divides a step's error by the size of the new state. Where both are infinite the next step's length would be NaN,
    and in a batch, which passes over members that are NaN already, the step would count.
    """

    controller: diffrax.PIDController

    def __init__(self, controller: diffrax.PIDController):
        self.controller = controller

    @property
    def rtol(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.controller.rtol

    @property
    def atol(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.controller.atol

    @property
    def norm(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.controller.norm

    def wrap(self, direction: Any) -> "RepeatOverflow":
        """The same for integration in a direction."""
        return RepeatOverflow(self.controller.wrap(direction))

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
        """The first step and the controller's state, as the wrapped controller has them."""
        return self.controller.init(terms, t0, t1, y0, dt0, args, func, error_order)

    def adapt_step_size(
        self,
        t0: Any,
        t1: Any,
        y0: PyTree[Array],
        y1_candidate: PyTree[Array],
        args: Any,
        y_error: PyTree[Array],
        error_order: Any,
        controller_state: Any,
    ) -> Any:
        """What the wrapped controller decides, shown an infinite error of the old state where the new one overflows."""
        overflows = jtu.tree_map(lambda y0, y1: jnp.isfinite(y0) & ~jnp.isfinite(y1), y0, y1_candidate)
        y1 = jtu.tree_map(jnp.where, overflows, y0, y1_candidate)
        error = jtu.tree_map(lambda overflow, error: jnp.where(overflow, jnp.inf, error), overflows, y_error)
        return self.controller.adapt_step_size(t0, t1, y0, y1, args, error, error_order, controller_state)


def adaptive_steps(rtol: Any, atol: Any, **options: Any) -> RepeatOverflow:
    """Diffrax's proportional–integral–derivative controller, which repeats steps that overflow."""
    return RepeatOverflow(diffrax.PIDController(rtol, atol, **options))

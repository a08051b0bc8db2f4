"""Tsit5 and Dopri8 with their stages written out, as diffrax solvers.

Diffrax's own explicit Runge–Kutta solvers loop over the stages inside the compiled program, which costs microseconds a step
on a CPU whatever the system. Here the same tableaux, read from diffrax, are unrolled at trace time and their zeros skipped:
the numbers are the same up to rounding, and a step of a small system is several times faster. Use them wherever diffrax
takes a solver, with any step size controller.
"""

from collections.abc import Callable
from typing import Any, ClassVar, final

import diffrax
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree


class AbstractUnrolledSolver(diffrax.AbstractAdaptiveSolver):
    """An explicit Runge–Kutta method whose last stage is the next step's first, with unrolled stages."""

    term_structure: ClassVar = diffrax.AbstractTerm
    tableau: ClassVar[diffrax.ButcherTableau]
    order_of_convergence: ClassVar[int]

    def order(self, terms: Any) -> int | None:
        return self.order_of_convergence

    def init(self, terms: Any, t0: Any, t1: Any, y0: PyTree[Array], args: Any) -> PyTree[Array]:
        return terms.vf(t0, y0, args)

    def func(self, terms: Any, t0: Any, y0: PyTree[Array], args: Any) -> PyTree[Array]:
        return terms.vf(t0, y0, args)

    def step(
        self,
        terms: Any,
        t0: Any,
        t1: Any,
        y0: PyTree[Array],
        args: Any,
        solver_state: PyTree[Array],
        made_jump: Any,
    ) -> Any:
        """One step: the new state, its error estimate, the stages for interpolation, and the last stage's velocity."""
        control = terms.contr(t0, t1)
        velocity = _velocity_at_start(terms, t0, y0, args, solver_state, made_jump)
        y, stages = y0, [terms.prod(velocity, control)]
        for row, c in zip(self.tableau.a_lower, self.tableau.c, strict=True):
            y = _add(y0, row, stages)
            velocity = terms.vf(t0 + c * (t1 - t0), y, args)
            stages.append(terms.prod(velocity, control))
        # The last stage was evaluated at the new state itself, whose weights b_sol are the tableau's last row.
        error = _add(None, self.tableau.b_error, stages)
        interpolation = {"y0": y0, "y1": y, "k": jtu.tree_map(lambda *k: jnp.stack(k), *stages)}
        return y, error, interpolation, velocity, diffrax.RESULTS.successful


@final
class Tsit5(AbstractUnrolledSolver):
    """Tsitouras' 5(4) method, unrolled: the general choice, and the faster one for large systems."""

    tableau: ClassVar[diffrax.ButcherTableau] = diffrax.Tsit5.tableau
    order_of_convergence: ClassVar[int] = 5
    interpolation_cls: ClassVar[Callable[..., diffrax.AbstractLocalInterpolation]] = (
        diffrax.Tsit5.interpolation_cls
    )


@final
class Dopri8(AbstractUnrolledSolver):
    """Dormand and Prince's 8(7) method, unrolled: the choice for small systems at tight tolerances."""

    tableau: ClassVar[diffrax.ButcherTableau] = diffrax.Dopri8.tableau
    order_of_convergence: ClassVar[int] = 8
    interpolation_cls: ClassVar[Callable[..., diffrax.AbstractLocalInterpolation]] = (
        diffrax.Dopri8.interpolation_cls
    )


def _velocity_at_start(
    terms: Any, t0: Any, y0: PyTree[Array], args: Any, last: PyTree[Array], made_jump: Any
) -> Any:
    """The previous step's last velocity, or a fresh one after a discontinuity."""
    if made_jump is False:
        return last
    return jax.lax.cond(made_jump, lambda: terms.vf(t0, y0, args), lambda: last)


def _add(y: PyTree[Array] | None, coefficients: np.ndarray, stages: list[PyTree[Array]]) -> PyTree[Array]:
    """y + Σ coefficient · stage, without the terms whose coefficient is 0."""
    kept = [j for j, coefficient in enumerate(coefficients) if coefficient != 0]

    def combine(*leaves: Array) -> Array:
        return sum(
            (float(coefficients[j]) * leaf for j, leaf in zip(kept, leaves, strict=True)), jnp.zeros(())
        )

    total = jtu.tree_map(combine, *(stages[j] for j in kept))
    return total if y is None else jtu.tree_map(jnp.add, y, total)

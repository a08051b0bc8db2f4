"""Explicit Runge–Kutta methods as diffrax solvers: Tsit5 and Dopri8 with their stages written out, and a stabilised one.

Diffrax's own explicit solvers loop over the stages inside the compiled program, which costs microseconds a step on a CPU
whatever the system. In `Tsit5` and `Dopri8` the same tableaux, read from diffrax, are unrolled at trace time and their zeros
skipped: the numbers are the same up to rounding, and a step of a small system is several times faster. States of many
numbers, whose stages cost more than that, get a loop again, in which the vector field is compiled only once.

`RungeKuttaChebyshev`, which diffrax does not have, takes long steps where fast directions only decay. Use all of them
wherever diffrax takes a solver, with any step size controller.
"""

import abc
import operator
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias, final

import diffrax
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from curlflow._trees import size

# States of more numbers than this go through their stages in a loop.
LARGEST_UNROLLED = 50_000


SolverChoice: TypeAlias = Literal["tsit5", "dopri8", "kvaerno5"] | diffrax.AbstractSolver[Any]


def chosen_solver(
    solver: SolverChoice | None, default: diffrax.AbstractSolver[Any]
) -> diffrax.AbstractSolver[Any]:
    """The solver of that name, or the solver itself; None takes the default."""
    named = {"tsit5": Tsit5, "dopri8": Dopri8, "kvaerno5": diffrax.Kvaerno5}
    chosen = named[solver]() if isinstance(solver, str) and solver in named else solver
    if chosen is None:
        return default
    if not isinstance(chosen, diffrax.AbstractAdaptiveSolver):
        raise ValueError(
            f"`solver` must be one of {', '.join(map(repr, named))}, or a diffrax solver with an error estimate, "
            f"but is {solver!r}."
        )
    return chosen


class AbstractFirstSameAsLastSolver(diffrax.AbstractAdaptiveSolver):
    """An explicit method that evaluates the velocity at the new state last, where the next step begins."""

    term_structure: ClassVar = diffrax.AbstractTerm
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
        velocity = _velocity_at_start(terms, t0, y0, args, solver_state, made_jump)
        y, error, stages, last = self.through_the_stages(terms, t0, t1, y0, args, velocity)
        interpolation = {"y0": y0, "y1": y, "k": jtu.tree_map(lambda *k: jnp.stack(k), *stages)}
        return y, error, interpolation, last, diffrax.RESULTS.successful

    @abc.abstractmethod
    def through_the_stages(
        self, terms: Any, t0: Any, t1: Any, y0: PyTree[Array], args: Any, velocity: PyTree[Array]
    ) -> tuple[PyTree[Array], PyTree[Array], list[PyTree[Array]], PyTree[Array]]:
        """The new state, its error estimate, the steps along the velocities that interpolation needs, the last velocity."""


class AbstractUnrolledSolver(AbstractFirstSameAsLastSolver):
    """A method given by a tableau, with unrolled stages."""

    tableau: ClassVar[diffrax.ButcherTableau]

    def through_the_stages(
        self, terms: Any, t0: Any, t1: Any, y0: PyTree[Array], args: Any, velocity: PyTree[Array]
    ) -> tuple[PyTree[Array], PyTree[Array], list[PyTree[Array]], PyTree[Array]]:
        control = terms.contr(t0, t1)
        stage = partial(self._stage, terms, t0, t1, y0)
        run_through = _unrolled if size(y0) <= LARGEST_UNROLLED else _in_a_loop
        times = [t0 + c * (t1 - t0) for c in self.tableau.c]
        y, velocities = run_through(stage, lambda t, y: terms.vf(t, y, args), times, y0, velocity)
        # The last velocity was evaluated at the new state itself, whose weights b_sol are the tableau's last row.
        error = terms.prod(_combine(self.tableau.b_error, velocities), control)
        return y, error, [terms.prod(velocity, control) for velocity in velocities], velocities[-1]

    def _stage(
        self, terms: Any, t0: Any, t1: Any, y0: PyTree[Array], i: int, velocities: PyTree[Array]
    ) -> PyTree[Array]:
        """The state at which the velocity number i + 1 is evaluated: y0 plus the step times a mean of velocities."""
        change = terms.prod(_combine(self.tableau.a_lower[i], velocities), terms.contr(t0, t1))
        return jtu.tree_map(jnp.add, y0, change)


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
    """Dormand and Prince's 8(7) method, unrolled: the fewest steps at tight tolerances.

    `lyapunov_spectrum` takes it unless told otherwise, `integrate` for small systems, in which its many stages compile
    quickly.
    """

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


def _unrolled(
    stage: Callable[..., Any],
    field: Callable[..., Any],
    times: list[Any],
    y0: PyTree[Array],
    velocity: PyTree[Array],
) -> tuple[PyTree[Array], list[PyTree[Array]]]:
    """The last stage's state, and the velocities of all stages."""
    y, velocities = y0, [velocity]
    for i, t in enumerate(times):
        y = stage(i, velocities)
        velocities.append(field(t, y))
    return y, velocities


def _in_a_loop(
    stage: Callable[..., Any],
    field: Callable[..., Any],
    times: list[Any],
    y0: PyTree[Array],
    velocity: PyTree[Array],
) -> tuple[PyTree[Array], list[PyTree[Array]]]:
    """The same in a loop, with a branch for every stage's sum, so that none reads velocities whose coefficient is 0."""

    def first(count: int, stack: PyTree[Array]) -> list[PyTree[Array]]:
        return [velocity, *(jtu.tree_map(operator.itemgetter(j), stack) for j in range(count))]

    branches = [lambda stack, i=i: stage(i, first(i, stack)) for i in range(len(times))]

    def one_stage(i: Any, carry: tuple[PyTree[Array], PyTree[Array]]) -> tuple[PyTree[Array], PyTree[Array]]:
        _, stack = carry
        y = jax.lax.switch(i, branches, stack)
        return y, jtu.tree_map(lambda stack, v: stack.at[i].set(v), stack, field(jnp.stack(times)[i], y))

    stack = jtu.tree_map(lambda v: jnp.zeros((len(times), *v.shape), v.dtype), velocity)
    y, stack = jax.lax.fori_loop(0, len(times), one_stage, (y0, stack))
    return y, first(len(times), stack)


def _combine(coefficients: np.ndarray, velocities: list[PyTree[Array]]) -> PyTree[Array]:
    """Σ coefficient · velocity, without the terms whose coefficient is 0."""
    kept = [(float(c), v) for c, v in zip(coefficients, velocities, strict=True) if c != 0]
    scaled = [jtu.tree_map(lambda leaf, c=c: c * leaf, v) for c, v in kept]
    return jtu.tree_map(lambda *leaves: sum(leaves[1:], leaves[0]), *scaled)


@final
class RungeKuttaChebyshev(AbstractFirstSameAsLastSolver):
    """The stabilised second-order method RKC: long steps where fast directions only decay, without solving equations.

    With s stages it is stable on the negative real axis down to about −0.65 (s² − 1), where s stages of an ordinary explicit
    method reach about −0.6 s: the choice for learning that drifts slowly along valleys with steep walls, at moderate
    tolerances (1e-3 to 1e-5). Fast oscillations make its steps short, and tight tolerances too: then take `Tsit5`.

    Parameters
    ----------
    stages
        The number s of evaluations of the vector field per step, at least 2.

    References
    ----------
    B. P. Sommeijer, L. F. Shampine, J. G. Verwer, "RKC: An explicit solver for parabolic PDEs", J. Comput. Appl. Math. 88,
    315 (1998).
    """

    stages: int = 10
    order_of_convergence: ClassVar[int] = 2
    interpolation_cls: ClassVar[Callable[..., diffrax.AbstractLocalInterpolation]] = (
        diffrax.ThirdOrderHermitePolynomialInterpolation.from_k
    )

    def __check_init__(self) -> None:
        if self.stages < 2:
            raise ValueError(f"`stages` must be at least 2, but is {self.stages}.")

    def through_the_stages(
        self, terms: Any, t0: Any, t1: Any, y0: PyTree[Array], args: Any, velocity: PyTree[Array]
    ) -> tuple[PyTree[Array], PyTree[Array], list[PyTree[Array]], PyTree[Array]]:
        """A recurrence of three terms through the stages."""
        control = terms.contr(t0, t1)
        first, rows = _chebyshev(self.stages)
        k0 = terms.prod(velocity, control)
        before, now = y0, jtu.tree_map(lambda y, k: y + first * k, y0, k0)
        for c, mu, nu, mu_k, gamma in rows:
            k = terms.prod(terms.vf(t0 + c * (t1 - t0), now, args), control)
            parts = (y0, now, before, k, k0)
            weights = (1 - mu - nu, mu, nu, mu_k, gamma)
            before, now = (
                now,
                jtu.tree_map(
                    lambda *leaves, w=weights: sum(a * leaf for a, leaf in zip(w, leaves, strict=True)),
                    *parts,
                ),
            )
        last = terms.vf(t1, now, args)
        k1 = terms.prod(last, control)
        error = jtu.tree_map(lambda y0, y1, k0, k1: 0.8 * (y0 - y1) + 0.4 * (k0 + k1), y0, now, k0, k1)
        return now, error, [k0, k1], last


def _chebyshev(s: int) -> tuple[float, list[tuple[float, ...]]]:
    """The first stage's weight, and (time, μ, ν, μ̃, γ̃) of the stages 2 … s, from Chebyshev polynomials just beyond 1."""
    w0 = 1 + 2 / 13 / s**2
    basis = [np.polynomial.Chebyshev.basis(j) for j in range(s + 1)]
    T = np.array([p(w0) for p in basis])
    slope = np.array([0.0] + [p.deriv(1)(w0) for p in basis[1:]])
    curvature = np.array([0.0, 0.0] + [p.deriv(2)(w0) for p in basis[2:]])
    w1 = slope[s] / curvature[s]
    b = np.concatenate([[0.0, 0.0], curvature[2:] / slope[2:] ** 2])
    b[:2] = b[2]
    times = np.concatenate([[0.0, b[1] * w1], w1 * curvature[2:] / slope[2:]])
    rows = []
    for j in range(2, s + 1):
        mu_k = 2 * b[j] * w1 / b[j - 1]
        gamma = -(1 - b[j - 1] * T[j - 1]) * mu_k
        row = (times[j - 1], 2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2], mu_k, gamma)
        rows.append(tuple(map(float, row)))
    return float(b[1] * w1), rows

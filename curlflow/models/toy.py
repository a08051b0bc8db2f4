"""The two-neuron toy model (the paper's Section 4.1), with its solution in closed form."""

from typing import ClassVar, Literal, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.system import Args, Time


@final
class ToyFlow(eqx.Module):
    r"""Curl flow with one input, one hidden unit and one output, on the plane of states w = [w1, w2].

    .. math::  \dot w_1 = d_1 w_2 (s - w_1 w_2), \qquad \dot w_2 = d_2 w_1 (s - w_1 w_2)

    Made by `toy_flow`. The quantity q = d1 w1² − d2 w2² is conserved: with equal signs every orbit lies on a hyperbola, with
    opposite signs on a circle w1² + w2² = r². On the circle, twice the polar angle obeys the Adler equation
    φ̇ = d1 (r² sin φ − 2s): where r² < 2|s| the whole circle is one periodic orbit; where r² > 2|s| it holds four fixed
    points, two of which attract. (The paper puts the heteroclinic orbits between the two regimes at w1² + w2² = s; they lie
    at 2|s|, the squared distance of the solution manifold w1 w2 = s from the origin.)

    References
    ----------
    arXiv:2510.02765, Eqs. 7–9. The closed-form solution goes beyond the paper.
    """

    s: Float[Array, ""]
    d1: Float[Array, ""]
    d2: Float[Array, ""]

    coordinate_names: ClassVar[tuple[str, str]] = ("$w_1$", "$w_2$")

    def __call__(self, t: Time, w: Float[Array, "2"], args: Args = None) -> Float[Array, "2"]:
        """The velocity [ẇ1, ẇ2] at w = [w1, w2]."""
        self.check_state(w)
        error = self.s - w[0] * w[1]
        return jnp.stack([self.d1 * w[1] * error, self.d2 * w[0] * error])

    def loss(self, w: Float[Array, "2"]) -> Float[Array, ""]:
        """The loss ½ (s − w1 w2)²."""
        return (self.s - w[0] * w[1]) ** 2 / 2

    def conserved(self, w: Float[Array, "2"]) -> Float[Array, ""]:
        """The conserved quantity q = d1 w1² − d2 w2²: ±r² for opposite signs, ±(w1² − w2²) for equal ones."""
        return self.d1 * w[0] ** 2 - self.d2 * w[1] ** 2

    def gradient_flow(self) -> "ToyFlow":
        """The same flow with both signs +1: gradient flow on the same loss."""
        return ToyFlow(self.s, jnp.ones_like(self.d1), jnp.ones_like(self.d2))

    def period(self, w: Float[Array, "2"]) -> Float[Array, ""]:
        r"""The period of the orbit through w: T = 4π / √(4s² − r⁴) with r² = w1² + w2² (derived from the Adler equation).

        Infinite where the orbit does not close: on and outside the circle r² = 2|s|, and for gradient flow. The loss has
        half this period.
        """
        self.check_state(w)
        gap = 4 * self.s**2 - jnp.vdot(w, w) ** 2
        closed = (self.d1 * self.d2 < 0) & (gap > 0)
        return jnp.where(closed, 4 * jnp.pi / jnp.sqrt(jnp.where(closed, gap, 1.0)), jnp.inf)

    def solution(self, t: ArrayLike, w0: Float[Array, "2"]) -> Float[Array, "*times 2"]:
        r"""The exact state at a time, or at many, on the orbit that starts at `w0`.

        The slope w2/w1 obeys a Riccati equation, so the direction of w follows a *linear* flow. With q the conserved
        quantity and a = d1 d2 q / 2,

        .. math::

            w = \frac{z}{\sqrt g}, \qquad \dot z = A z, \quad A = \begin{pmatrix} a & d_1 s \\ d_2 s & -a \end{pmatrix},
            \qquad \dot g = d_2 z_1^2 + d_1 z_2^2,

        from z(0) = w0 and g(0) = 1. Since A² = κ² I with κ² = a² + d1 d2 s², z is made of hyperbolic (κ² > 0) or
        trigonometric (κ² < 0) functions of κt. With opposite signs the length of w is conserved, so that g is not needed;
        with equal signs the eigenvectors of A are orthogonal, and g is the sum of two exponential integrals.

        Parameters
        ----------
        t
            Time since the start, in the flow's units, a number or an array; negative times run the orbit backwards.
        w0
            The state at time 0, shape (2,).

        Returns
        -------
        Array
            The state [w1, w2] at each time: the shape of `t`, then (2,). NaN past the time at which an orbit of the
            ascending flow (d1 = d2 = −1) has escaped to infinity.

        Examples
        --------
        >>> import curlflow as cf, jax.numpy as jnp
        >>> flow = cf.toy_flow(s=1.0, flip="readout")
        >>> w0 = jnp.array([1.0, 0.0])
        >>> bool(jnp.allclose(flow.solution(flow.period(w0), w0), w0))
        True
        """
        self.check_state(w0)
        t = _checks.float64_array("t", t)[..., None]
        opposite = self.d1 * self.d2 < 0
        return jnp.where(opposite, self._solution_on_circle(t, w0), self._solution_on_hyperbola(t, w0))

    def settling_time(self, w0: Float[Array, "2"], error: ArrayLike) -> Float[Array, ""]:
        r"""The exact time after which abs(s − w1 w2) stays below `error` on the orbit that starts at `w0`.

        On the circles of opposite signs z = a₊ e^{κt} v₊ + a₋ e^{−κt} v₋ in the eigenvectors of A (see `solution`), so that
        the ratio ρ = a₋/a₊ e^{−2κt} passes from its start to the value at which the error is met; next to the separatrix,
        where the eigenvectors merge, tanh κt follows from the directions of the two ends. On the hyperbolas of gradient
        flow, ∫ dp / ((s − p) √(q² + 4p²)) over p = w1 w2 is elementary.

        Parameters
        ----------
        w0
            The state at time 0, shape (2,).
        error
            The threshold on abs(s − w1 w2), positive, in units of s.

        Returns
        -------
        Array
            The settling time, a scalar: 0 where the orbit already is and stays below, infinity where it never settles.

        Examples
        --------
        Next to the stable manifold of the gradient flow's saddle, curl flow is faster:

        >>> import curlflow as cf, jax.numpy as jnp
        >>> curl, w0 = cf.toy_flow(s=1.0, flip="readout"), jnp.array([-1.5, 1.5001])
        >>> float(curl.settling_time(w0, 1e-3)) < float(curl.gradient_flow().settling_time(w0, 1e-3))
        True
        """
        self.check_state(w0)
        error = _checks.float64_array("error", error)
        if not _checks.is_traced(error) and jnp.any(error <= 0):
            raise ValueError(f"`error` must be positive, but is {error}.")
        opposite = self.d1 * self.d2 < 0
        return jnp.where(
            opposite, self._settling_on_circle(w0, error), self._settling_on_hyperbola(w0, error)
        )

    def check_state(self, w: Array) -> None:
        """Raise ValueError if the state is not an array [w1, w2]."""
        if not isinstance(w, (Array, np.ndarray)):
            raise ValueError(
                f"The state of the toy flow must be an array [w1, w2], but is {type(w).__name__}."
            )
        _checks.require_shape("w", w, (2,), "(2,)")

    def _direction_generator(self, w: Float[Array, "2"]) -> Float[Array, "2 2"]:
        a = self.d1 * self.d2 * self.conserved(w) / 2
        return jnp.array([[a, self.d1 * self.s], [self.d2 * self.s, -a]])

    @eqx.filter_jit
    def _solution_on_circle(self, t: Array, w0: Float[Array, "2"]) -> Float[Array, "*times 2"]:
        A = self._direction_generator(w0)
        kappa_squared = -jnp.linalg.det(A)
        kappa = jnp.sqrt(jnp.where(kappa_squared > 0, kappa_squared, 1.0))
        cosh, sinh = _scaled_hyperbolic_functions(t, kappa_squared)
        early = cosh * w0 + sinh * (A @ w0)
        # Late on, that sum cancels in an orbit which left a repelling fixed point.
        growing, decaying = _eigenparts(A, kappa, w0)
        ahead, behind = _scaled_exponentials(kappa * t)
        is_late = (kappa_squared > 0) & (kappa * jnp.abs(t) > 1)
        z = jnp.where(is_late, ahead * growing + behind * decaying, early)
        length = jnp.hypot(z[..., :1], z[..., 1:])
        return jnp.hypot(*w0) * z / jnp.where(length > 0, length, 1.0)

    @eqx.filter_jit
    def _solution_on_hyperbola(self, t: Array, w0: Float[Array, "2"]) -> Float[Array, "*times 2"]:
        A = self._direction_generator(w0)
        kappa = jnp.hypot(*A[0])
        turns = kappa > 0
        growing, decaying = _eigenparts(A, jnp.where(turns, kappa, 1.0), w0)
        ahead, behind = _scaled_exponentials(kappa * t)
        z = ahead * growing + behind * decaying
        # The integral of |z|², to the same scale; the two parts are orthogonal.
        swept = ahead * jnp.vdot(growing, growing) + behind * jnp.vdot(decaying, decaying)
        g = ahead * behind + self.d1 * t * _decay_mean(kappa * jnp.abs(t)) * swept
        straight = w0 / jnp.sqrt(1 + self.d1 * t * jnp.vdot(w0, w0))
        return jnp.where(turns, z / jnp.sqrt(g), straight)

    @eqx.filter_jit
    def _settling_on_circle(self, w0: Float[Array, "2"], error: Float[Array, ""]) -> Float[Array, ""]:
        p, radius_squared = w0[0] * w0[1], jnp.vdot(w0, w0)
        kappa_squared = -jnp.linalg.det(self._direction_generator(w0))
        tangent = self._settling_tangent(w0, error)
        y = jnp.sqrt(jnp.maximum(kappa_squared, 0.0)) * tangent
        soon = jnp.where(
            y == 0, tangent, tangent * jnp.arctanh(jnp.clip(y, -0.5, 0.5)) / jnp.where(y == 0, 1.0, y)
        )
        time = jnp.where(jnp.abs(y) < 0.5, soon, self._settling_along_eigenvectors(w0, error))
        settles = (kappa_squared >= 0) & ~jnp.isnan(time)
        # Even the far side of the circle meets the threshold, or the state is a fixed point.
        never_outside = (radius_squared / 2 + self.s * jnp.sign(self.s - p) <= error) | (p == self.s)
        return jnp.where(never_outside, 0.0, jnp.where(settles, jnp.maximum(time, 0.0), jnp.inf))

    def _settling_tangent(self, w0: Float[Array, "2"], error: Float[Array, ""]) -> Float[Array, ""]:
        """tanh κt / κ for the time t at which the error is met: cosh κt w0 + sinh κt / κ A w0 then has that direction."""
        p = self.s + jnp.sign(w0[0] * w0[1] - self.s) * error
        attracting_side = -self.d1 * jnp.sqrt(jnp.maximum(jnp.vdot(w0, w0) ** 2 - 4 * p**2, 0.0))
        angle = jnp.arctan2(2 * p, attracting_side) / 2
        goal = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return -_cross(goal, w0) / _cross(goal, self._direction_generator(w0) @ w0)

    def _settling_along_eigenvectors(
        self, w0: Float[Array, "2"], error: Float[Array, ""]
    ) -> Float[Array, ""]:
        A = self._direction_generator(w0)
        kappa_squared = -jnp.linalg.det(A)
        kappa = jnp.sqrt(jnp.where(kappa_squared > 0, kappa_squared, 1.0))
        growing, decaying = _unit_eigenvector(A, kappa), _unit_eigenvector(A, -kappa)
        start = jnp.abs(_cross(growing, w0) / _cross(w0, decaying))
        # On the circle the error is β ρ / (1 + 2 γ ρ + ρ²); it meets ±error at the smaller root of a quadratic in ρ
        # whose roots have product 1.
        gamma = jnp.vdot(growing, decaying)
        beta = 2 * self.s * gamma - jnp.vdot(w0, w0) * jnp.vdot(growing, decaying[::-1])
        side = jnp.sign(_cross(growing, w0) * _cross(w0, decaying))
        half_sum = jnp.abs(beta) / (2 * error) - side * gamma
        end = 1 / (half_sum + jnp.sqrt(jnp.maximum(half_sum**2 - 1, 0.0)))
        return jnp.log(start / end) / (2 * kappa)

    @eqx.filter_jit
    def _settling_on_hyperbola(self, w0: Float[Array, "2"], error: Float[Array, ""]) -> Float[Array, ""]:
        q, start = self.conserved(w0), w0[0] * w0[1]
        end = self.s - jnp.sign(self.s - start) * error
        time = _hyperbola_clock(end, self.s, q) - _hyperbola_clock(start, self.s, q)
        # On the diagonals only: on the wrong one the origin is in the way; for s = 0 the approach is algebraic.
        time = jnp.where((q == 0) & (self.s == 0), (1 / error - 1 / jnp.abs(start)) / 2, time)
        time = jnp.where((q == 0) & (self.s * start <= 0) & (jnp.abs(self.s) >= error), jnp.inf, time)
        settled = jnp.where(jnp.abs(self.s - start) <= error, 0.0, time)
        return jnp.where(self.d1 > 0, settled, jnp.inf)


def toy_flow(s: float = 1.0, *, flip: Literal["readout", "hidden", "both"] | None = "readout") -> ToyFlow:
    """The two-neuron toy model: one input, one hidden unit, one output.

    Parameters
    ----------
    s
        The teacher's end-to-end weight.
    flip
        Which layer learns with the wrong sign: "readout" (d2 = −1, the paper's Eq. 8), "hidden" (d1 = −1, the same orbits
        run backwards), "both" (gradient flow run backwards, which escapes to infinity in finite time), or None (gradient
        flow, Eq. 7).

    Returns
    -------
    ToyFlow
        The flow on states w = [w1, w2].

    Raises
    ------
    ValueError
        If `s` is not a finite number, `flip` is none of the four, or JAX is set to float32.

    References
    ----------
    arXiv:2510.02765, Section 4.1.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> cf.toy_flow(s=1.0, flip="readout")(0.0, jnp.array([0.5, 1.0]), None)
    Array([ 0.5 , -0.25], dtype=float64)
    """
    _checks.require_one_of("flip", flip, ("readout", "hidden", "both", None))
    s = _checks.finite_number("s", s)
    d1 = -1.0 if flip in ("hidden", "both") else 1.0
    d2 = -1.0 if flip in ("readout", "both") else 1.0
    return ToyFlow(
        *(_checks.float64_array(name, value) for name, value in (("s", s), ("d1", d1), ("d2", d2)))
    )


def _scaled_hyperbolic_functions(t: Array, kappa_squared: Array) -> tuple[Array, Array]:
    """cosh κt and sinh κt / κ, both times e^{−κ|t|} where κ is real so that they never overflow."""
    x = jnp.sqrt(jnp.abs(kappa_squared)) * jnp.abs(t)
    real = kappa_squared > 0
    cosh = jnp.where(real, (1 + jnp.exp(-2 * x)) / 2, jnp.cos(x))
    sinh = t * jnp.where(real, _decay_mean(x), jnp.sinc(x / jnp.pi))
    return cosh, sinh


def _decay_mean(x: Array) -> Array:
    """(1 − e^{−2x}) / 2x, the mean of e^{−2u} for u from 0 to x."""
    return jnp.where(x > 0, -jnp.expm1(-2 * x) / jnp.where(x > 0, 2 * x, 1.0), 1.0)


def _scaled_exponentials(x: Array) -> tuple[Array, Array]:
    """e^{x} and e^{−x}, both times e^{−|x|}, and never quite 0."""
    return jnp.maximum(jnp.exp(x - jnp.abs(x)), 1e-300), jnp.maximum(jnp.exp(-x - jnp.abs(x)), 1e-300)


def _eigenparts(
    A: Float[Array, "2 2"], eigenvalue: Array, w: Float[Array, "2"]
) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
    """The parts of w along the eigenvectors of a traceless 2 × 2 matrix, of ±its eigenvalue."""
    u, v = _unit_eigenvector(A, eigenvalue), _unit_eigenvector(A, -eigenvalue)
    return u * _cross(w, v) / _cross(u, v), v * _cross(u, w) / _cross(u, v)


def _unit_eigenvector(A: Float[Array, "2 2"], eigenvalue: Array) -> Float[Array, "2"]:
    """The unit eigenvector of a traceless 2 × 2 matrix, from whichever of its two formulas does not cancel."""
    from_first_row = jnp.stack([A[0, 1], eigenvalue - A[0, 0]])
    from_second_row = jnp.stack([eigenvalue + A[0, 0], A[1, 0]])
    vector = jnp.where(eigenvalue * A[0, 0] > 0, from_second_row, from_first_row)
    return vector / jnp.linalg.norm(vector)


def _cross(u: Float[Array, "2"], v: Float[Array, "2"]) -> Float[Array, ""]:
    return u[0] * v[1] - u[1] * v[0]


def _hyperbola_clock(p: Array, s: Array, q: Array) -> Float[Array, ""]:
    """An antiderivative of 1 / ((s − p) √(q² + 4p²)) in p, for p on one side of s."""
    K, R = jnp.hypot(q, 2 * s), jnp.hypot(q, 2 * p)
    inner = q**2 + 4 * s * p
    # For s p < 0 the sum K R + inner cancels; it equals 4 q² (s − p)² / (K R − inner).
    ratio = jnp.where(
        inner < 0,
        4 * jnp.maximum(q**2, 1e-280) * jnp.abs(s - p) / (K * R - jnp.minimum(inner, 0.0)),
        (K * R + inner) / jnp.abs(s - p),
    )
    return jnp.log(ratio) / K

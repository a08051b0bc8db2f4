"""Whether a centre of the linearisation is a centre: the terms beyond it may turn its circles into slow spirals."""

from collections.abc import Callable

import jax
import numpy as np
import scipy
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from curlflow.fixed_points.local import EPS, LocalField, nonlinear_length
from curlflow.system import known

# Orbits at these shares of the distance over which the field is linear must all close, …
AMPLITUDES = 0.5 ** np.arange(1, 6)
# … to this share of their distance.
CLOSED = 1e-9
# Where that takes more steps, the field is not smooth.
MOST_STEPS = 500
# Second derivatives of more numbers than this are not taken.
LARGEST_HESSIANS = 1e6


def is_centre(local: LocalField, rates: np.ndarray, modes: np.ndarray) -> bool:
    """Whether a fixed point whose transverse eigenvalues are imaginary or stable is a centre in its centre manifold.

    It is one if the field is linear, if a conserved quantity has a strict extremum there, or, in the plane, if the orbits
    round it close. What cannot be told is no centre here.

    Parameters
    ----------
    local
        The field beside the point.
    rates, modes
        The eigenvalues with positive imaginary part on the imaginary axis, and their eigenvectors as columns.
    """
    if not np.isfinite(nonlinear_length(local)):
        return True
    frame = np.concatenate([np.real(modes), -np.imag(modes)], axis=1)
    if local.n == 2:
        return _orbits_close(local, float(np.imag(rates[0])), frame)
    return _is_extremum_of_conserved(local, frame)


def _is_extremum_of_conserved(local: LocalField, frame: np.ndarray) -> bool:
    """Whether some sum of the known conserved quantities has a definite second derivative in the centre subspace."""
    conserved = known(local.system, "conserved")
    if conserved is None:
        return False
    state, unravel = ravel_pytree(local.y)

    def values(flat: Array) -> Array:
        return ravel_pytree(conserved(unravel(flat)))[0]

    count = jax.eval_shape(values, state).size
    if count * local.n**2 > LARGEST_HESSIANS:
        return False
    gradients = np.asarray(jax.jit(jax.jacrev(values))(state))
    second = np.asarray(jax.jit(jax.hessian(values))(state))
    across = np.linalg.qr(local.scale[:, None] * frame)[0]
    hessians = across.T @ second @ across
    # The sum closest to the squared distance, among those without a slope.
    equations = np.concatenate([hessians.reshape(count, -1), gradients], axis=1).T
    wanted = np.concatenate([np.eye(across.shape[1]).ravel(), np.zeros(local.n)])
    weights = np.linalg.lstsq(equations, wanted)[0]
    slope = np.linalg.norm(weights @ gradients)
    return bool(np.linalg.eigvalsh(np.tensordot(weights, hessians, 1)).min() > 1e-6 and slope < 1e-9)


def _orbits_close(local: LocalField, rate: float, frame: np.ndarray) -> bool:
    """Whether orbits of several sizes close after one turn round a point of a planar flow.

    In the frame of the eigenvector the linear part is a rotation. With the angle θ in place of time, the logarithm u of the
    distance obeys du/dθ = (z·ż)/(z×ż), and an orbit closes if u is the same after one turn.
    """
    frame = frame / np.linalg.norm(frame, 2)
    length = nonlinear_length(local, frame, rate)
    distances = AMPLITUDES * length
    to_frame = np.linalg.inv(frame)

    # Without equinox's wrapper a call takes a tenth of the time; there are some hundred.
    velocities = jax.jit(jax.vmap(local.field))

    def growth(angle: float, logarithms: np.ndarray) -> np.ndarray:
        circle = np.exp(logarithms)[:, None] * [np.cos(angle), np.sin(angle)]
        states = local.flat + (circle @ frame.T) * local.scale
        x, y = circle.T
        u, v = to_frame @ (np.asarray(velocities(states)) / local.scale).T
        return (x * u + y * v) / (x * v - y * u)

    start = np.log(distances)
    # Far from the origin the coordinates have few digits left for the distance from the point.
    unsharp = 10 * EPS * np.linalg.norm(local.flat / local.scale) / distances
    end = _after_one_turn(growth, start, max(1e-12, float(unsharp.max())))
    return bool((np.abs(end - start) <= CLOSED + 10 * unsharp).all())


def _after_one_turn(
    growth: Callable[[float, np.ndarray], np.ndarray], start: np.ndarray, tolerance: float
) -> Float[np.ndarray, " orbits"]:
    """The solution at the angle 2π; NaN where it does not get there."""
    solver = scipy.integrate.DOP853(
        growth, 0.0, start, 2 * np.pi, rtol=tolerance, atol=tolerance / 10, max_step=0.5
    )
    for _ in range(MOST_STEPS):
        if solver.status != "running" or not np.isfinite(solver.y).all():
            break
        solver.step()
    return solver.y if solver.status == "finished" else np.full_like(start, np.nan)

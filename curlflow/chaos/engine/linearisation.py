"""The linearisation at the first state: whether a system's own derivatives are right, and in which units it is balanced."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optimistix as optx
import scipy
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from curlflow import _checks
from curlflow._trees import size
from curlflow.chaos.engine import frames
from curlflow.chaos.engine.tangent_system import TangentSystem
from curlflow.system import Args, State, known, pushed

# Of states of up to this many numbers the whole Jacobian is computed; of larger ones its product with one random vector.
LARGEST_JACOBIAN = 32
# A derivative of the system's own may differ by this fraction from that by automatic differentiation.
OWN_DERIVATIVE_RTOL = 1e-5
# Coordinates whose natural units differ by less than this are measured in those of the state.
LARGEST_SPREAD = 1e3


def beside_the_start(
    tangent: TangentSystem, system: Any, args: Args, y: State, key: PRNGKeyArray, alone: bool
) -> PyTree[Array] | None:
    """Refuse a flow that is not finite at the first state or wrong about its derivatives; return units for tangent vectors.

    They are None where the units of the state will do. Only what stands `alone` must be finite: a member of an ensemble may
    fail for itself.
    """
    if tangent.is_map:
        return _units(_jacobian_of_map(tangent, system, args, y), y) if _is_spread(y) else None
    basis = _directions(y, key)
    velocity, columns = _linearised(tangent, system, args, tangent.t0, y, basis)
    if alone:
        for path, leaf in jtu.tree_leaves_with_path(velocity):
            _checks.require_finite("f(t0, y0, args)" + jtu.keystr(path), leaf)
    _check_own_derivatives(tangent, system, args, y, velocity, basis)
    return _units(np.asarray(frames.columns(columns)).T, y) if size(y) <= LARGEST_JACOBIAN else None


def _directions(y: State, key: PRNGKeyArray) -> PyTree[Array]:
    """All unit vectors of a small state; one random vector of a large one."""
    if size(y) > LARGEST_JACOBIAN:
        return frames.random_frame(key, y, 1)
    return frames.like(frames.random_frame(key, y, size(y)), jnp.eye(size(y)))


@eqx.filter_jit
def _linearised(
    tangent: TangentSystem, system: Any, args: Args, t: Array, y: State, basis: PyTree[Array]
) -> tuple[State, PyTree[Array]]:
    return tangent.rates(system, args, t, y, basis)


def _jacobian_of_map(tangent: TangentSystem, system: Any, args: Args, y: State) -> Float[np.ndarray, "n n"]:
    basis = _directions(y, jax.random.key(0))
    n = jnp.round(tangent.t0).astype(jnp.int64)
    return np.asarray(frames.columns(tangent.stepped(system, args, n, y, basis)[1])).T


def _is_spread(y: State) -> bool:
    """Whether the numbers of a small state are of very different sizes."""
    numbers = np.concatenate([np.abs(np.asarray(leaf)).ravel() for leaf in jtu.tree_leaves(y)])
    numbers = numbers[numbers > 0]
    return 1 < len(numbers) <= LARGEST_JACOBIAN and bool(numbers.max() > LARGEST_SPREAD * numbers.min())


def _units(J: Float[np.ndarray, "n n"], y: State) -> PyTree[Array] | None:
    """Units, powers of two, in which rows and columns of the Jacobian are of one size; None if those of the state will do.

    Exponents do not depend on the units of the coordinates. What rounding leaves of tangent vectors does: in units of 1e-8
    and 1e8 all of them seem to be parallel. Balanced units are the same whatever units the state is in.
    """
    if J.shape != (size(y), size(y)) or not np.isfinite(J).all():
        return None
    # SciPy also makes integers of the scales, in vain, which very large ones do not fit.
    with np.errstate(invalid="ignore"):
        units = scipy.linalg.matrix_balance(J, permute=False, separate=True)[1][0]
    if units.max() <= LARGEST_SPREAD * units.min():
        return None
    leaves, structure = jtu.tree_flatten(y)
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = [
        jnp.asarray(units[end - leaf.size : end]).reshape(leaf.shape)
        for leaf, end in zip(leaves, ends, strict=True)
    ]
    return jtu.tree_unflatten(structure, parts)


def _check_own_derivatives(
    tangent: TangentSystem, system: Any, args: Args, y: State, velocity: State, basis: PyTree[Array]
) -> None:
    """Refuse a `tangent` or `divergence` of the flow's own that is not what automatic differentiation says.

    It is asked at the start, and beside it at another time: what is wrong may happen to be right where all is zero.
    """
    whole = size(y) <= LARGEST_JACOBIAN
    names = [name for name in ("tangent", "divergence") if known(system, name) is not None]
    if not names or (names == ["divergence"] and not whole):
        return
    step = 0.01 * (optx.max_norm(y) + tangent.atol) / jnp.maximum(optx.max_norm(velocity), 1e-300)
    beside = jtu.tree_map(lambda y, rate: y + jnp.minimum(step, tangent.dt) * rate, y, velocity)
    for t, point in ((tangent.t0, y), (tangent.t0 + tangent.dt / jnp.pi, beside)):
        for name, *numbers in _both_derivatives(system, args, t, point, basis, whole):
            own, exact, largest = map(np.asarray, numbers)
            _require_same(name, own, exact, float(largest), float(t))


@eqx.filter_jit
def _both_derivatives(
    system: Any, args: Args, t: Array, y: State, basis: PyTree[Array], whole: bool
) -> list[tuple[str, Array, Array, Array]]:
    """What the flow says of its own derivatives, what automatic differentiation says, and how large that is."""
    exact = frames.columns(pushed(lambda y: system(t, y, args), y, basis)[1])
    tangent, divergence = known(system, "tangent"), known(system, "divergence")
    found = []
    if tangent is not None:
        found.append(("tangent", frames.columns(tangent(t, y, basis, args)), exact, jnp.max(jnp.abs(exact))))
    if divergence is not None and whole:
        # A trace may be a small sum of large terms.
        found.append(("divergence", divergence(t, y, args), jnp.trace(exact), jnp.max(jnp.abs(exact))))
    return found


def _require_same(name: str, own: np.ndarray, exact: np.ndarray, largest: float, t: float) -> None:
    if own.shape != exact.shape:
        raise ValueError(
            f"`system` must have a method `{name}` that returns shape {exact.shape}, but it returned {own.shape}."
        )
    if not (np.isfinite(own).all() and np.isfinite(exact).all()):
        return
    difference = float(np.max(np.abs(own - exact)))
    if difference <= OWN_DERIVATIVE_RTOL * largest:
        return
    what = "the Jacobian times its vectors" if name == "tangent" else "the trace of the Jacobian"
    raise ValueError(
        f"`system` must have a method `{name}` that returns {what}, but at t = {t:g} beside y0 it differs by "
        f"{difference:.3g} from automatic differentiation: correct it, or leave it out."
    )

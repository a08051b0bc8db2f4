"""A vector field beside a state: in coordinates of the state's own scale, with the rounding error it is computed with."""

from functools import cached_property
from math import factorial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from curlflow._trees import float64
from curlflow.fixed_points.linearize import flat_field
from curlflow.system import Args, Flow, State

EPS = float(np.finfo(np.float64).eps)
# Coordinates whose own scales differ by less than this are left as they are.
LARGEST_UNBALANCED = 1e3
# A field that is linear as far as this, in units of the state's size, is linear.
FARTHEST = 1e12
# Differences of this order of a smooth field, at neighbouring points, are nothing but rounding.
NOISE_ORDER = 4


class LocalField:
    """The vector field and its Jacobian about a state, on flattened NumPy arrays, in units of a scale of each coordinate.

    A state is given in the coordinates of the system; velocities, Jacobians and steps are in units of `scale`, so that
    nothing depends on the units of the system. Without a scale the Jacobian tells it, where it is badly balanced.
    """

    def __init__(
        self,
        system: Flow,
        flat: np.ndarray,
        like: State,
        t: float | Array,
        args: Args,
        scale: np.ndarray | None = None,
    ):
        self.system, self.flat, self.like, self.t, self.args = system, flat, like, float64(t), args
        self.n = flat.size
        self.scale = np.ones(self.n)
        self.value, self.jacobian = self.at(self.flat)
        chosen = self._own_scale() if scale is None else scale
        # How far "far" is: a size of the box that was searched, or the state's own distance from the origin.
        self.knows_its_unit = scale is not None or bool(self.flat.any())
        self.unit = 1.0 if scale is not None else float(np.linalg.norm(self.flat / chosen) or 1.0)
        self.value, self.jacobian = self._scaled(self.value, self.jacobian, chosen)
        self.scale = chosen

    def at(self, flat: np.ndarray) -> tuple[Float[np.ndarray, " state"], Float[np.ndarray, "state state"]]:
        """The velocity and the Jacobian at a flattened state."""
        value, J = _value_and_jacobian(self.system, flat, self.like, self.t, self.args)
        return self._scaled(np.asarray(value), np.asarray(J), self.scale)

    def moved(self, step: np.ndarray) -> Float[np.ndarray, " state"]:
        """The flattened state that lies a step away."""
        return self.flat + self.scale * step

    def beside(self, step: np.ndarray) -> "LocalField":
        """The local field a step away, in the same units."""
        return LocalField(self.system, self.moved(step), self.like, self.t, self.args, self.scale)

    @cached_property
    def y(self) -> State:
        """The state in its own structure."""
        return ravel_pytree(self.like)[1](jnp.asarray(self.flat))

    def length(self, step: np.ndarray) -> float:
        """The length of a step in the coordinates of the system."""
        return float(np.linalg.norm(self.scale * step))

    def field(self, flat: Array) -> Array:
        """The velocity in the coordinates of the system, for JAX."""
        return flat_field(self.system, self.like, self.t, self.args)[0](flat)

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.value).all() and np.isfinite(self.jacobian).all())

    @property
    def speed(self) -> float:
        """‖f‖ in the coordinates of the system."""
        return float(np.linalg.norm(self.scale * self.value))

    @cached_property
    def step(self) -> Float[np.ndarray, " state"]:
        """Newton's step from the state."""
        return newton_step(self.value, self.jacobian)

    @cached_property
    def changed(self) -> float:
        """By how much the Jacobian changes over Newton's step."""
        return self.change(self.step)

    @cached_property
    def is_linear(self) -> bool:
        """Whether Newton's step stays where the field is linear, so that it ends at a fixed point.

        It does if the step removes the residual or, where that is rounding and cannot be removed, if there is no room for
        the Jacobian to lose its rank on the way (Kantorovich).
        """
        if not self.changed <= 1e-3 * np.linalg.norm(self.jacobian):
            return False
        left = np.linalg.norm(self.at(self.moved(self.step))[0])
        return bool(left <= 0.1 * np.linalg.norm(self.value)) or self._keeps_its_rank()

    def _keeps_its_rank(self) -> bool:
        step = full_newton_step(self.value, self.jacobian)
        smallest = np.linalg.svd(self.jacobian, compute_uv=False)[-1]
        return step is not None and bool(self.change(step) <= 0.1 * smallest)

    def change(self, *steps: np.ndarray) -> float:
        """By how much the Jacobian changes over the worst of some steps; infinite where it is not finite."""
        changes = [np.linalg.norm(self.at(self.moved(step))[1] - self.jacobian) for step in steps]
        return float(np.max(np.where(np.isfinite(changes), changes, np.inf)))

    @cached_property
    def rounding(self) -> Float[np.ndarray, " state"]:
        """The velocity that rounding alone leaves at an exact fixed point: that of the field's terms, and of the state.

        The rounding of the terms cannot be told from the field's value, as they cancel. It is what remains in the
        differences of high order of values at neighbouring points, in which all that is smooth cancels (Moré & Wild,
        *Estimating computational noise*, SIAM J. Sci. Comput. 33, 2011).
        """
        length = self.unit if self.knows_its_unit else min(self.unit, nonlinear_length(self))
        spacing = 2.0**-26 * length
        direction = _directions(self.n, 1)[0]
        line = [self.at(self.moved(k * spacing * direction))[0] for k in range(-NOISE_ORDER, NOISE_ORDER + 1)]
        differences = np.diff(line, NOISE_ORDER, axis=0)
        share = factorial(NOISE_ORDER) ** 2 / factorial(2 * NOISE_ORDER)
        noise = np.sqrt(share * np.mean(differences**2, axis=0))
        of_state = 4 * EPS * np.abs(self.jacobian) @ np.abs(self.flat / self.scale)
        return np.nan_to_num(16 * noise) + of_state

    def is_rounding(self, value: np.ndarray) -> bool:
        """Whether a velocity is what rounding can leave of zero."""
        return bool((np.abs(value) <= self.rounding).all())

    def indistinguishable(self) -> Float[np.ndarray, " state"]:
        """How far the state can move where the field changes least, with no more speed there than rounding explains."""
        direction = np.linalg.svd(self.jacobian)[2][-1]
        still = 2 * np.maximum(self.rounding, np.abs(self.value))

        def is_still(step: np.ndarray) -> bool:
            return any((np.abs(self.at(self.moved(side * step))[0]) <= still).all() for side in (1.0, -1.0))

        length = 4 * EPS * max(self.unit, float(np.linalg.norm(self.flat / self.scale)))
        while length < 1e-2 * self.unit and is_still(2 * length * direction):
            length *= 2
        return length * direction

    def _own_scale(self) -> Float[np.ndarray, " state"]:
        """Scales of the coordinates in which rows and columns of the Jacobian are of one size, if they are not anyway."""
        scale = _balancing(self.jacobian)
        if np.ptp(np.log(scale)) <= np.log(LARGEST_UNBALANCED):
            return np.ones(self.n)
        # An entry that is nothing but the state's inaccuracy must not have a say in it.
        size = np.where(self.flat == 0, np.linalg.norm(self.flat) or 1.0, np.abs(self.flat))
        beside = self.at(self.flat + 1e-9 * size)[1]
        return _balancing(
            np.where(np.abs(beside - self.jacobian) < np.abs(self.jacobian), self.jacobian, 0.0)
        )

    @staticmethod
    def _scaled(value: np.ndarray, J: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return value / scale, J * (scale / scale[:, None])


@eqx.filter_jit
def _value_and_jacobian(
    system: Flow, flat: Array | np.ndarray, like: State, t: Array, args: Args
) -> tuple[Array, Array]:
    field, _ = flat_field(system, like, t, args)
    flat = jnp.asarray(flat)
    return field(flat), jax.jacfwd(field)(flat)


@eqx.filter_jit
def velocities(
    system: Flow, states: Float[Array | np.ndarray, "states numbers"], like: State, t: Array, args: Args
) -> Float[Array, "states numbers"]:
    """The velocities at flattened states."""
    field, _ = flat_field(system, like, t, args)
    return jax.vmap(field)(jnp.asarray(states))


def _balancing(J: np.ndarray) -> Float[np.ndarray, " state"]:
    """The scales of a matrix that its similarity to a balanced one needs; ones for a matrix that is not finite."""
    if not np.isfinite(J).all():
        return np.ones(len(J))
    # SciPy also makes integers of the scales, in vain, which very large ones do not fit.
    with np.errstate(invalid="ignore"):
        return scipy.linalg.matrix_balance(J, permute=False, separate=True)[1][0]


def _directions(n: int, count: int) -> Float[np.ndarray, "count state"]:
    """Unit vectors in no special direction."""
    drawn = np.random.default_rng(0).normal(size=(count, n))
    return drawn / np.linalg.norm(drawn, axis=1)[:, None]


def nonlinear_length(local: LocalField, frame: np.ndarray | None = None, size: float | None = None) -> float:
    """The distance over which the Jacobian changes by a third of its size; infinite for a field that is linear.

    In the coordinates of a frame, if there is one: the columns of a matrix.
    """
    frame = np.eye(local.n) if frame is None else frame
    size = float(np.linalg.norm(local.jacobian)) if size is None else size
    if size == 0:
        return local.unit
    steps = _directions(frame.shape[1], 3) @ frame.T

    def is_nonlinear(length: float) -> bool:
        return _change_in_frame(local, frame, length * steps) > size / 3

    length = local.unit
    while not is_nonlinear(length):
        length *= 16
        if length > FARTHEST * local.unit:
            return np.inf
    while is_nonlinear(length) and length > local.unit / FARTHEST:
        length /= 2
    return length


def _change_in_frame(local: LocalField, frame: np.ndarray, steps: np.ndarray) -> float:
    changes = [np.linalg.pinv(frame) @ (local.at(local.moved(s))[1] - local.jacobian) @ frame for s in steps]
    sizes = [np.linalg.norm(change) for change in changes]
    return float(np.max(np.where(np.isfinite(sizes), sizes, np.inf)))


def newton_step(value: np.ndarray, J: np.ndarray, rank: int | None = None) -> Float[np.ndarray, " state"]:
    """The shortest Newton step; without a given rank, in the directions whose singular values stand clear of rounding."""
    U, sizes, Vt = np.linalg.svd(J)
    if rank is None:
        rank = int(np.sum(sizes > np.sqrt(EPS) * sizes[0]))
    return -Vt[:rank].T @ ((U[:, :rank].T @ value) / sizes[:rank])


def full_newton_step(value: np.ndarray, J: np.ndarray) -> Float[np.ndarray, " state"] | None:
    """The Newton step in all directions, however flat the field is in some; None where there is none.

    Each equation is first brought to size 1, so that the flat ones of a multiple root count like the others.
    """
    rows = np.linalg.norm(J, axis=1)
    if not rows.all():
        return None
    U, sizes, Vt = np.linalg.svd(J / rows[:, None])
    if sizes[-1] <= 10 * len(J) * EPS * sizes[0]:
        return None
    return -Vt.T @ ((U.T @ (value / rows)) / sizes)

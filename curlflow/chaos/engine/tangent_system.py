"""The tangent system: a flow or map, and the tangent vectors that its linearisation pushes along beside the state."""

import inspect
import math
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, TypedDict, final

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import optimistix as optx
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PyTree

from curlflow import _checks
from curlflow._trees import float64, floats_to_arrays, size
from curlflow.chaos.engine import frames
from curlflow.orbits.solve import DEFAULT_MAX_STEPS
from curlflow.orbits.solvers import Dopri8, SolverChoice, chosen_solver
from curlflow.system import (
    Args,
    State,
    System,
    Time,
    is_map,
    known,
    pushed,
    require_flow,
    require_map,
    velocity_and_tangents,
)

DEFAULT_RTOL, DEFAULT_ATOL = 1e-8, 1e-10

# State and frame of up to this many numbers go through the solver as one flat vector, and are chosen without a branch.
LARGEST_PACKED = 4096

RUNNING, BLOWN_UP, STEP_LIMIT, STEP_TOO_SMALL, COLUMN_LOST = range(5)

Members: TypeAlias = Literal["states", "systems"]
Generator: TypeAlias = Callable[[Time, State, Args], Array]


class TangentOptions(TypedDict, total=False):
    """The keyword arguments of `TangentSystem`, which the functions that make one take too."""

    args: Args
    t0: float
    dt: float
    batch: Members | None
    divergence: bool | None
    solver: SolverChoice | None
    rtol: float | None
    atol: float | None
    dtmax: float | None
    max_steps: int | None
    blow_up: float | None


@final
class TangentSystem(eqx.Module):
    r"""A system with k tangent vectors beside its state, and how they are stepped.

    .. math::  \dot y = f(t, y), \qquad \dot v_j = J(t, y)\, v_j, \quad j = 1 \dots k

    for a flow, y ← step(n, y) and v_j ← D step(n, y) v_j for a map; every `dt` the vectors are made orthonormal by a QR
    factorisation. `lyapunov_spectrum`, `gali` and `verdict` make one from their own options; they also take one that is made
    already. With a `generator` the vectors obey another linear equation along the orbit, v̇ = B(t, y) v, whose exponents
    `lyapunov_spectrum` then finds: those of hidden units in `manifold.unit_exponents`, for example.

    Parameters
    ----------
    system
        A flow, any function f(t, y, args), or a map, any object with a method step(n, y, args).
    args
        Passed on to the system. Python floats in it become arrays, so that new ones do not compile anew.
    t0
        Initial time (the number of the first step for maps).
    dt
        Time between two QRs. Where a tangent vector would be lost in between, the interval is divided by two until it is
        not, and remains so.
    batch
        "states": initial states have a leading axis of members, which are computed in one go. "systems": so have the arrays
        of the system and of `args`.
    divergence
        Whether to average the divergence tr J along the orbit too (ln abs(det J) for maps): the exact sum of all exponents.
        None means yes if there are as many tangent vectors as dimensions.
    generator
        None for the Jacobian, or a function (t, y, args) → B of shape (n, n): tangent vectors of n numbers then obey v̇ = B v
        (v ← B v for maps).
    solver
        Flows only: "tsit5", "dopri8", "kvaerno5" (implicit, for small stiff systems), or any diffrax solver with an error
        estimate. None takes Dopri8.
    rtol, atol
        Flows only: relative and absolute tolerance on the local error of a step in the state, 1e-8 and 1e-10 by default. The
        error of a tangent vector is held to `rtol` times its length.
    dtmax
        Flows only: the longest step of the solver. Events shorter than a step, such as pulses after a quiet stretch, are
        stepped over unseen if they are shorter than the steps that the quiet allows. None means no limit but `dt`.
    max_steps
        Flows only: most steps of the solver between two QRs; None means a million.
    blow_up
        Largest magnitude that any entry of the state may reach; beyond it the run ends with the outcome "blew up". None means
        1.3e154: a bounded motion may be of any size, and a blow-up in finite time is told by its growth.
        `jnp.inf` means no limit.

    Raises
    ------
    ValueError
        If an argument is out of range or not finite, or if a flow's option is given for a map.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> tangent = cf.chaos.TangentSystem(cf.toy_flow(s=1.0, flip="readout"), rtol=1e-10)
    >>> ls = cf.lyapunov_spectrum(tangent, jnp.array([0.5, 2.0]), T=50.0, Ttr=50.0)
    >>> bool(abs(ls.exponents[1] - (0.5**2 - 2.0**2)) < 1e-6)
    True
    """

    system: System
    args: Args
    t0: Float[Array, ""]
    dt: Float[Array, ""]
    rtol: Float[Array, ""]
    atol: Float[Array, ""]
    dtmax: Float[Array, ""]
    blow_up: Float[Array, ""]
    max_steps: Int[Array, ""]
    units: PyTree[Array] | None  # in which tangent vectors are measured, like the state; None: its own
    generator: Generator | None
    solver: diffrax.AbstractSolver[Any] | None  # None for maps
    divergence: bool | None
    members: Members | None

    def __init__(
        self,
        system: System,
        *,
        args: Args = None,
        t0: float = 0.0,
        dt: float = 1.0,
        batch: Members | None = None,
        divergence: bool | None = None,
        generator: Generator | None = None,
        solver: SolverChoice | None = None,
        rtol: float | None = None,
        atol: float | None = None,
        dtmax: float | None = None,
        max_steps: int | None = None,
        blow_up: float | None = None,
    ):
        map_given = is_map(system)
        if map_given:
            require_map(system)
            _refuse_flow_options(solver=solver, rtol=rtol, atol=atol, dtmax=dtmax, max_steps=max_steps)
        else:
            require_flow(system)
        _checks.require_one_of("batch", batch, (None, "states", "systems"))
        rtol = _checks.relative_tolerance("rtol", DEFAULT_RTOL if rtol is None else rtol)
        atol = _checks.non_negative_number("atol", DEFAULT_ATOL if atol is None else atol)
        steps = _checks.positive_integer("max_steps", DEFAULT_MAX_STEPS if max_steps is None else max_steps)
        self.system, self.args, self.generator = system, floats_to_arrays(args), generator
        self.t0 = float64(_checks.finite_number("t0", t0))
        self.dt = float64(_interval(dt, map_given))
        self.rtol, self.atol = float64(rtol), float64(atol)
        self.dtmax = float64(jnp.inf if dtmax is None else _checks.positive_number("dtmax", dtmax))
        limit = _checks.LARGEST_STATE if blow_up is None else blow_up
        self.blow_up = float64(limit if limit == math.inf else _checks.positive_number("blow_up", limit))
        self.max_steps = jnp.asarray(steps, jnp.int64)
        self.solver = None if map_given else _as_accurate(chosen_solver(solver, Dopri8()), rtol, atol)
        self.divergence = None if divergence is None else bool(divergence)
        self.members, self.units = batch, None

    @property
    def is_map(self) -> bool:
        """Whether the system is iterated and not integrated."""
        return self.solver is None

    @property
    def is_implicit(self) -> bool:
        """Whether the solver solves equations in every step, as stiff systems want it."""
        return isinstance(self.solver, diffrax.AbstractImplicitSolver)

    @property
    def with_divergence(self) -> bool:
        """Whether the divergence is averaged, once it is known how many tangent vectors there are."""
        return bool(self.divergence)

    def vectors_like(self, y: State) -> Any:
        """What a tangent vector at the state y looks like: the state, or n numbers if a generator moves them."""
        if self.generator is None:
            return y
        B = jax.eval_shape(lambda y: self.generator(self.t0, y, self.args), y)  # pyright: ignore[reportOptionalCall]
        if len(B.shape) != 2 or B.shape[0] != B.shape[1]:
            raise ValueError(f"`generator` must return a square matrix, but returned shape {B.shape}.")
        return jnp.zeros(B.shape[:1])

    def rates(
        self, system: Any, args: Args, t: Time, y: State, V: PyTree[Array]
    ) -> tuple[State, PyTree[Array]]:
        """The velocity of the state, and that of the tangent vectors."""
        if self.generator is None:
            velocity, rates = velocity_and_tangents(system, t, y, self.in_state_units(V), args)
            return velocity, self.in_own_units(rates)
        return system(t, y, args), V @ self.generator(t, y, args).T

    def volume_rate(self, system: Any, args: Args, t: Time, y: State) -> Float[Array, ""]:
        """The rate at which the logarithm of the tangent vectors' volume grows: the trace of what moves them."""
        if self.generator is not None:
            return jnp.trace(self.generator(t, y, args))
        divergence = known(system, "divergence")
        if divergence is not None:
            return divergence(t, y, args)
        return frames.trace(lambda state: system(t, state, args), y)

    def stepped(
        self, system: Any, args: Args, n: Array, y: State, V: PyTree[Array]
    ) -> tuple[State, PyTree[Array]]:
        """The state and the tangent vectors after one step of a map."""
        if self.generator is None:
            value, V = pushed(lambda y: system.step(n, y, args), y, self.in_state_units(V))
            return value, self.in_own_units(V)
        return system.step(n, y, args), V @ self.generator(n, y, args).T

    def volume_step(self, system: Any, args: Args, n: Array, y: State) -> Float[Array, ""]:
        """By how much a step of a map changes the logarithm of the tangent vectors' volume."""
        if self.generator is not None:
            return jnp.linalg.slogdet(self.generator(n, y, args))[1]
        return frames.log_determinant(lambda y: system.step(n, y, args), y)

    def in_state_units(self, V: PyTree[Array]) -> PyTree[Array]:
        """Tangent vectors in the units of the state."""
        return V if self.units is None else frames.weighted(V, self.units)

    def in_own_units(self, V: PyTree[Array]) -> PyTree[Array]:
        """Tangent vectors in the units in which they are kept."""
        return (
            V if self.units is None else frames.weighted(V, jtu.tree_map(lambda unit: 1 / unit, self.units))
        )

    def over_members(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn` on every member of the ensemble, or itself where there is only one run."""
        return fn if self.members is None else jax.vmap(fn, in_axes=-1, out_axes=-1)

    def over_systems(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn(system, args, *rest)` on every member's own system, or on the one that all members share."""
        if self.members is None:
            return lambda *rest: fn(self.system, self.args, *rest)
        if self.members == "states":
            return jax.vmap(lambda *rest: fn(self.system, self.args, *rest), in_axes=-1, out_axes=-1)
        arrays, rest_of_system = eqx.partition((self.system, self.args), eqx.is_array)

        def member(arrays: Any, rest: tuple[Any, ...]) -> Any:
            return fn(*eqx.combine(arrays, rest_of_system), *rest)

        return lambda *rest: jax.vmap(member, in_axes=(0, -1), out_axes=-1)(arrays, rest)

    def of_member(self, member: int) -> "TangentSystem":
        """The tangent system of one member alone."""
        alone = eqx.tree_at(lambda own: own.members, self, None, is_leaf=lambda leaf: leaf is None)
        if self.members != "systems":
            return alone

        def own(leaf: Any) -> Any:
            return leaf[member] if eqx.is_array(leaf) else leaf

        return alone.with_system(*jtu.tree_map(own, (self.system, self.args)))

    def with_system(self, system: System, args: Args) -> "TangentSystem":
        """The same around another system of the same kind."""
        return eqx.tree_at(
            lambda own: (own.system, own.args), self, (system, args), is_leaf=lambda leaf: leaf is None
        )

    def with_generator(self, generator: Generator) -> "TangentSystem":
        """The same for tangent vectors that a generator moves."""
        return eqx.tree_at(lambda own: own.generator, self, generator, is_leaf=lambda leaf: leaf is None)

    def measured_in(self, units: PyTree[Array]) -> "TangentSystem":
        """The same, whose tangent vectors are measured in these units, one for every number of the state."""
        return eqx.tree_at(lambda own: own.units, self, units, is_leaf=lambda leaf: leaf is None)

    def averaging_divergence(self, yes: bool) -> "TangentSystem":
        """The same, which averages the divergence or not."""
        return eqx.tree_at(lambda own: own.divergence, self, yes, is_leaf=lambda leaf: leaf is None)


def as_tangent_system(system: "System | TangentSystem", **options: Any) -> TangentSystem:
    """The tangent system itself, whose options are its own then; or one made of a flow or a map."""
    if not isinstance(system, TangentSystem):
        return TangentSystem(system, **options)
    defaults = inspect.signature(TangentSystem).parameters
    for name, value in options.items():
        if value is not defaults[name].default and value != defaults[name].default:
            raise ValueError(
                f"`{name}` must be left to the tangent system, which has its own, but is {value!r}."
            )
    return system


def _refuse_flow_options(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(
                f"`{name}` must be left out for a map, which is iterated and not integrated, but is {value!r}."
            )


def _interval(dt: ArrayLike, map_given: bool) -> float:
    dt = _checks.positive_number("dt", dt)  # pyright: ignore[reportArgumentType]
    if map_given and dt != round(dt):
        raise ValueError(f"`dt` must be a whole number of steps for a map, but is {dt:g}.")
    return dt


def _as_accurate(solver: Any, rtol: float, atol: float) -> Any:
    """An implicit solver, whose equations are to be solved as accurately as its steps are; any other as it is."""
    if not isinstance(solver, diffrax.AbstractImplicitSolver):
        return solver
    root_finder = diffrax.VeryChord(rtol=rtol, atol=max(atol, rtol * 1e-3))
    return eqx.tree_at(lambda s: s.root_finder, solver, root_finder)


class RunState(eqx.Module):
    """Everything that a run needs in order to go on.

    Members of an ensemble are the trailing axis of y, frame, escape and status; every block of them has a clock of its own.
    A member's status says why it ended, and its escape when: infinity for those that go on.
    """

    y: PyTree[Array]
    frame: PyTree[Array]
    step: Float[Array, "*blocks"]
    interval: Int[Array, "*blocks"]
    pieces: Int[Array, "*blocks"]
    escape: Float[Array, "*members"]
    status: Int[Array, "*members"]
    time: Float[Array, "*blocks"]
    steps: Int[Array, "*blocks"]


class Record(eqx.Module):
    """What is written down at the end of every interval."""

    log_growth: Float[Array, "intervals k *members"]
    volume_growth: Float[Array, "intervals *members"]


def record_shape(tangent: TangentSystem, state: RunState) -> tuple[int, tuple[int, ...]]:
    """The number k of tangent vectors, and the number of members if there are any."""
    lengths = jax.eval_shape(tangent.over_members(frames.column_squares), state.frame)
    return lengths.shape[0], lengths.shape[1:]


def choose(condition: Array, new: PyTree[Array], old: PyTree[Array]) -> PyTree[Array]:
    """One of two values: element by element where they are small, because a branch costs more."""
    if size(new) <= LARGEST_PACKED:
        return jtu.tree_map(lambda new, old: jnp.where(condition, new, old), new, old)
    return jax.lax.cond(condition, lambda: new, lambda: old)


def with_ends(
    escape: Array, status: Array, ended: Array, t: Array, reason: int | Array
) -> tuple[Float[Array, "*members"], Int[Array, "*members"]]:
    """When and why each member ended, where some of those that had not have done so now."""
    ended = ended & (escape == jnp.inf)
    return jnp.where(ended, t, escape), jnp.where(ended, reason, status)


def outside(tangent: TangentSystem, y: Any) -> Bool[Array, "*members"]:
    """Whether each member's largest entry passed the limit."""
    return ~(tangent.over_members(optx.max_norm)(y) < tangent.blow_up)

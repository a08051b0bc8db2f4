"""What a system is, and what it may know of itself.

A *flow* is anything called as f(t, y, args) that returns a pytree like the state y: a plain function, or a module with
`__call__`. A *map* is anything with a method step(n, y, args) that returns the next state. Nothing more is asked of them.

A system may know more of itself, as methods with the names of `Knowledge`. Nobody asks for them but the functions of this
file, which also say what stands in where a system does not know.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeGuard, runtime_checkable

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow._traced import NotTraceable, require_arguments, shapes_of
from curlflow._trees import float64

# To a type checker a state is whatever the system says it is: every pytree of arrays is one.
if TYPE_CHECKING:
    State: TypeAlias = Any
    StateLike: TypeAlias = Any
    Time: TypeAlias = Any
else:
    State: TypeAlias = PyTree[Array]
    # Whatever becomes a state: numbers, lists and NumPy arrays as leaves.
    StateLike: TypeAlias = PyTree[ArrayLike]
    Time: TypeAlias = Any

# Handed through to the system; any pytree.
Args: TypeAlias = Any


@runtime_checkable
class Flow(Protocol):
    """A vector field: called as f(t, y, args), it returns the velocity ẏ, a pytree like y."""

    def __call__(self, t: Time, y: State, args: Args, /) -> State:
        """The velocity at time t and state y."""
        ...


@runtime_checkable
class Map(Protocol):
    """A map: step(n, y, args) returns the state after step number n, a pytree like y."""

    def step(self, n: Any, y: State, args: Args, /) -> State:
        """The state after step number n from the state y."""
        ...


System: TypeAlias = Flow | Map


class Knowledge(Protocol):
    """All that a system may know of itself. Every member is optional; the functions below say what stands in for it."""

    coordinate_names: tuple[str, str]
    """What the two coordinates of a planar flow are called in figures."""

    def check_state(self, y: State) -> None:
        """Raise ValueError, in words, if y is no state of this system; its values may be traced."""

    def loss(self, y: State) -> Float[Array, ""]:
        """What learning is to make small."""
        ...

    def conserved(self, y: State) -> PyTree[Array]:
        """Quantities which are constant along orbits, as arrays of any shapes."""
        ...

    def symmetries(self, y: State) -> State:
        """Directions in which continuous symmetries move y, stacked on a leading axis of every leaf."""
        ...

    def tangent(self, t: Time, y: State, V: State, args: Args) -> State:
        """The Jacobian times k tangent vectors at once, which stand along an axis before the last one of every leaf."""
        ...

    def divergence(self, t: Time, y: State, args: Args) -> Float[Array, ""]:
        """The trace of the Jacobian."""
        ...

    def gradient_flow(self) -> "Knowledge":
        """The system with no rule flipped: gradient flow on the same loss."""
        ...

    def descend(self, y: State, step: Float[Array, ""]) -> State:
        """What an Euler step of that length does to the state, where it is not an Euler step of the state itself."""
        ...

    def rescale(self, y: State, like: State) -> State:
        """The state y with every layer brought to the Frobenius norm that it has in the state `like`."""
        ...

    def output(self, y: State, X: Float[Array, "samples inputs"]) -> Float[Array, "samples outputs"]:
        """What a network with these weights answers to inputs."""
        ...


@runtime_checkable
class Network(Protocol):
    """Whatever knows what a network with given weights answers."""

    def output(self, y: State, X: Float[Array, "samples inputs"], /) -> Float[Array, "samples outputs"]:
        """The answers to inputs of a network with the weights y."""
        ...


@runtime_checkable
class DataFlow(Protocol):
    """A flow over a data set, which minibatch descent divides."""

    X: Float[Array, "samples inputs"]
    targets: Float[Array, "samples outputs"]

    def velocity_on(
        self, W: State, X: Float[Array, "batch inputs"], targets: Float[Array, "batch outputs"], /
    ) -> State:
        """The velocity if the data were these."""
        ...


@runtime_checkable
class DataSource(Protocol):
    """Whatever draws fresh data, such as a teacher."""

    def draw(
        self, key: PRNGKeyArray, samples: int, /
    ) -> tuple[Float[Array, "samples inputs"], Float[Array, "samples outputs"]]:
        """Inputs and what a network should answer to them."""
        ...


def is_map(system: System) -> TypeGuard[Map]:
    """Whether the system is iterated and not integrated: what can be called is a flow, whatever else it has."""
    return not callable(system) and known(system, "step") is not None


def known(system: Any, name: str) -> Any:
    """What a system knows of itself by one of the names of `Knowledge`, or None."""
    return getattr(system, name, None)


def handed_on(system: Any, name: str) -> Any:
    """The same for a wrapper, which is to know just what it wraps knows: AttributeError instead of None."""
    found = known(system, name)
    if found is None:
        raise AttributeError(f"{type(system).__name__} has no {name}.")
    return found


def require_known(system: Any, name: str) -> Any:
    """The same where nothing can stand in: ValueError instead of None."""
    found = known(system, name)
    if found is None:
        raise ValueError(f"`system` must have a method `{name}`, but {type(system).__name__} has none.")
    return found


def coordinate_names(system: Any) -> tuple[str, str]:
    """What the two coordinates of a planar flow are called; y1 and y2 where it does not say."""
    return known(system, "coordinate_names") or ("$y_1$", "$y_2$")


def check_state(system: Any, y: State) -> None:
    """Let a system that knows its states refuse a wrong one; every state is right to the others."""
    check = known(system, "check_state")
    if check is not None:
        check(y)


def velocity_and_tangents(system: Any, t: Time, y: State, V: State, args: Args) -> tuple[State, State]:
    """The velocity at y and the Jacobian times the tangent vectors V, by autodiff where the flow does not say."""
    tangent = known(system, "tangent")
    if tangent is not None:
        return system(t, y, args), tangent(t, y, V, args)
    return pushed(lambda state: system(t, state, args), y, V)


def pushed(fn: Callable[[State], State], y: State, V: State) -> tuple[State, State]:
    """The value of `fn` at y and its derivative times every tangent vector, by one linearisation.

    The vectors stand along an axis before the last one of every leaf (the only axis of a leaf that is a number).
    """
    value, derivative = jax.linearize(fn, y)
    axes = jtu.tree_map(lambda leaf: max(leaf.ndim - 1, 0), y)
    return value, jax.vmap(derivative, in_axes=(axes,), out_axes=axes)(V)


def euler_step(flow: Any, t: Time, y: State, step: Float[Array, ""], args: Args) -> State:
    """The state a step later: y + step · velocity, unless the flow says what descent does to its states."""
    descend = known(flow, "descend")
    if descend is not None:
        return descend(y, step)
    return jtu.tree_map(lambda layer, rate: layer + step * rate, y, flow(t, y, args))


def rescaled(flow: Any, y: State, like: State) -> State:
    """The state y with every layer brought to the norm that it has in `like`; every leaf is a layer unless the flow says."""
    rescale = known(flow, "rescale")
    if rescale is not None:
        return rescale(y, like)

    def to_norm(layer: Array, before: Array) -> Array:
        return layer * jnp.sqrt(jnp.vdot(before, before) / jnp.vdot(layer, layer))

    return jtu.tree_map(to_norm, y, like)


def outputs(
    network: Network | None, y: State, X: Float[Array, "samples inputs"]
) -> Float[Array, "samples outputs"]:
    """A network's answers to inputs; those of the linear map `end_to_end` of the state where there is no network."""
    return X @ y.end_to_end.T if network is None else network.output(y, X)


# ---------------------------------------------------------------------------------------------- checks, once a public call


def require_flow(system: Any) -> Flow:
    """Refuse anything that cannot be called as a vector field f(t, y, args)."""
    if not callable(system):
        raise ValueError(
            "`system` must be a vector field called as f(t, y, args), "
            f"but is {type(system).__name__}, which cannot be called."
        )
    require_arguments("system", system, ("t", "y", "args"))
    return system


def require_map(system: Any) -> Map:
    """Refuse anything without a method step(n, y, args)."""
    if known(system, "step") is None:
        raise ValueError(
            f"`system` must be a map with a method step(n, y, args), but {type(system).__name__} has none: integrate flows."
        )
    require_arguments("system.step", known(system, "step"), ("n", "y", "args"))
    return system


def flow_state(system: Any, y: StateLike, t: float, args: Args, name: str = "y") -> State:
    """The state `y` as finite float64 arrays that the flow `system` can move at time `t`."""
    require_flow(system)
    _checks.finite_number("t", t)
    state = _checks.state_pytree(name, y)
    check_state(system, state)
    require_same_structure(lambda y: system(float64(t), y, args), state)
    return state


def map_state(system: Any, y: StateLike, args: Args, name: str = "y") -> State:
    """The state `y` as finite float64 arrays that the map `system` can move."""
    require_map(system)
    state = _checks.state_pytree(name, y)
    check_state(system, state)
    require_same_structure(lambda y: system.step(jnp.asarray(0, jnp.int64), y, args), state)
    return state


def require_data_flow(flow: Any) -> DataFlow:
    """Refuse a flow that does not learn from a data set."""
    if known(flow, "velocity_on") is None:
        raise ValueError(
            f"`flow` must be a flow over a data set, such as StudentFlow, but is {type(flow).__name__}."
        )
    return flow


def require_data_source(teacher: Any) -> DataSource:
    """Refuse what does not draw data."""
    if known(teacher, "draw") is None:
        raise ValueError(
            f"`teacher` must have a method draw(key, samples), but {type(teacher).__name__} has none."
        )
    return teacher


def require_network(network: Any) -> Network:
    """Refuse what does not know a network's answers."""
    if known(network, "output") is None:
        raise ValueError(f"`network` must have a method output(y, X), but {type(network).__name__} has none.")
    return network


def require_same_structure(fn: Callable[[State], State], y: State) -> None:
    """Refuse a system whose value does not look like the state: same pytree, same shapes, same dtypes."""
    value = shapes_of("system", lambda y: jtu.tree_map(jnp.asarray, fn(y)), y)
    if isinstance(value, (list, tuple)) and jtu.treedef_is_leaf(jtu.tree_structure(y)):
        raise NotTraceable(
            f"`system` must return one array like its state, but returned a {type(value).__name__}: "
            "write jnp.stack([…]) around its entries."
        )
    if jtu.tree_structure(value) != jtu.tree_structure(y):
        raise ValueError(
            "`system` must return a pytree like its state, "
            f"but for the state {jtu.tree_structure(y)} it returned {jtu.tree_structure(value)}."
        )
    for (path, leaf), found in zip(jtu.tree_leaves_with_path(y), jtu.tree_leaves(value), strict=True):
        if found.shape != leaf.shape or found.dtype != leaf.dtype:
            raise ValueError(
                f"`system` must return {leaf.dtype}{list(leaf.shape)} at y{jtu.keystr(path)}, "
                f"but returned {found.dtype}{list(found.shape)}."
            )

"""Observables that need no history: each is updated after every step of `iterate`, and forgets the state.

What `iterate` folds over the steps is any object with the three methods of `Streamed`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias, final, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.system import Args, Network, State, Time, outputs, require_network

Observable: TypeAlias = Callable[[Time, State, Args], Any]


@runtime_checkable
class Streamed(Protocol):
    """What `iterate` folds over its steps: any object with these three methods."""

    def start(self, t: Time, y: State, args: Args, /) -> Any:
        """What is kept of the first state."""
        ...

    def add(self, kept: Any, t: Time, y: State, args: Args, /) -> Any:
        """What is kept after one more state."""
        ...

    def value(self, kept: Any, /) -> Any:
        """The result."""
        ...


@final
class PredictionError(eqx.Module):
    """Half the mean squared error of a network on given samples: its train error, or its test error on others.

    Parameters
    ----------
    X
        Inputs, shape (samples, M).
    targets
        What the network should answer, shape (samples, P), or (samples,) for P = 1.
    network
        None for a linear network, or what knows its answers: an object with `output(y, X)`, such as `StudentFlow`.

    Raises
    ------
    ValueError
        If the shapes do not fit together, a number is not finite, or the network has no `output`.

    Examples
    --------
    >>> import curlflow as cf
    >>> error = cf.orbits.PredictionError(X=[[1.0, 0.0], [0.0, 2.0]], targets=[1.0, 0.0])
    >>> float(error(0.0, cf.Weights(W1=[[1.0, 1.0]], W2=[[1.0]])))
    1.0
    """

    X: Float[Array, "samples inputs"]
    targets: Float[Array, "samples outputs"]
    network: Network | None

    def __init__(self, X: ArrayLike, targets: ArrayLike, network: Network | None = None):
        self.network = None if network is None else require_network(network)
        self.X, targets = _checks.float64_array("X", X), _checks.float64_array("targets", targets)
        self.targets = targets[:, None] if targets.ndim == 1 else targets
        if self.X.ndim != 2 or self.targets.ndim != 2 or len(self.X) != len(self.targets):
            raise ValueError(
                "`X` and `targets` must have shapes (samples, M) and (samples, P), "
                f"but have shapes {self.X.shape} and {targets.shape}."
            )

    def __call__(self, t: Time, y: State, args: Args = None) -> Float[Array, ""]:
        """½ ⟨‖answer − target‖²⟩ at the state y: weights of the network, or any state with an `end_to_end` map."""
        residual = self.targets - outputs(self.network, y, self.X)
        return (residual**2).sum() / (2 * len(self.X))


class _Moments(NamedTuple):
    states: Float[Array, ""]
    mean: PyTree[Array]
    squares: PyTree[Array]


@final
class OrderParameter(eqx.Module):
    r"""The paper's order parameter q: the fluctuations of the weights in time, against their spread among each other.

    .. math::  q = \frac{\mathbb{E}\left[\langle (w - \langle w \rangle)^2 \rangle\right]}{\mathbb{V}[\langle w \rangle]}

    with ⟨·⟩ over the states seen and mean 𝔼 and variance 𝕍 over all entries of the state. Slow drift and short cycles raise
    q as well as chaos does. The running moments are Welford's, which lose no digits when the fluctuations are tiny.

    References
    ----------
    arXiv:2510.02765, Eq. 15; there, over the last 1000 epochs.
    """

    def start(self, t: Time, y: State, args: Args) -> _Moments:
        """The moments of one state."""
        return _Moments(jnp.ones(()), y, jtu.tree_map(jnp.zeros_like, y))

    def add(self, kept: _Moments, t: Time, y: State, args: Args) -> _Moments:
        """The moments with one more state."""
        states = kept.states + 1
        mean = jtu.tree_map(lambda mean, new: mean + (new - mean) / states, kept.mean, y)
        squares = jtu.tree_map(
            lambda total, old, now, new: total + (new - old) * (new - now), kept.squares, kept.mean, mean, y
        )
        return _Moments(states, mean, squares)

    def value(self, kept: _Moments) -> Float[Array, ""]:
        """The order parameter q."""
        means = jnp.concatenate([leaf.ravel() for leaf in jtu.tree_leaves(kept.mean)])
        variances = jnp.concatenate([leaf.ravel() for leaf in jtu.tree_leaves(kept.squares)]) / kept.states
        return variances.mean() / means.var()


@final
class Peak(eqx.Module):
    """The largest value of an observable f(t, y, args), and when it was reached: a pair (value, time)."""

    observable: Observable

    def start(self, t: Time, y: State, args: Args) -> tuple[Array, Array]:
        """The first value."""
        return jnp.asarray(self.observable(t, y, args)), jnp.asarray(t, jnp.float64)

    def add(self, kept: tuple[Array, Array], t: Time, y: State, args: Args) -> tuple[Array, Array]:
        """The larger of the old value and the new one."""
        new = jnp.asarray(self.observable(t, y, args))
        return jnp.maximum(kept[0], new), jnp.where(new > kept[0], t, kept[1])

    def value(self, kept: tuple[Array, Array]) -> tuple[Array, Array]:
        """The peak and its time."""
        return kept


@final
class FirstPassage(eqx.Module):
    """The first time at which an observable f(t, y, args) is below a threshold; infinity if it never is.

    Parameters
    ----------
    observable
        A function of time, state and arguments with one real value, such as `PredictionError`.
    threshold
        The threshold, in the observable's units.
    """

    observable: Observable
    threshold: Float[Array, ""]

    def __init__(self, observable: Observable, threshold: float):
        self.observable = observable
        self.threshold = jnp.asarray(_checks.finite_number("threshold", threshold), jnp.float64)

    def start(self, t: Time, y: State, args: Args) -> Float[Array, ""]:
        """The time t if the first state is below."""
        return jnp.where(self.observable(t, y, args) < self.threshold, t, jnp.inf)

    def add(self, kept: Float[Array, ""], t: Time, y: State, args: Args) -> Float[Array, ""]:
        """The time t if this state is the first below."""
        return jnp.minimum(kept, self.start(t, y, args))

    def value(self, kept: Float[Array, ""]) -> Float[Array, ""]:
        """The time of the first passage."""
        return kept


@final
class Drift(eqx.Module):
    """How far what should be conserved has drifted from its first value, relative to the largest of its entries, at worst.

    `Drift(lambda t, y, args: flow.conserved(y))` is the streaming form of `Trajectory.conserved_drift`.
    """

    observable: Observable

    def start(self, t: Time, y: State, args: Args) -> tuple[Array, Array]:
        """The first value, and no drift."""
        return jnp.asarray(self.observable(t, y, args)), jnp.zeros(())

    def add(self, kept: tuple[Array, Array], t: Time, y: State, args: Args) -> tuple[Array, Array]:
        """The first value, and the largest drift so far."""
        first, worst = kept
        return first, jnp.maximum(worst, jnp.abs(self.observable(t, y, args) - first).max())

    def value(self, kept: tuple[Array, Array]) -> Float[Array, ""]:
        """The largest drift, relative (absolute where every first value is 0)."""
        size = jnp.abs(kept[0]).max()
        return kept[1] / jnp.where(size > 0, size, 1.0)

"""Networks whose neurons are fast but not infinitely so: activities and weights integrated together."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.models.hebbian import HebbianFlow
from curlflow.models.similarity_matching import SimilarityMatching
from curlflow.system import Args, Time


@final
class NetworkState(eqx.Module):
    """Activities and weights of a `FastNeurons` network, as a pytree.

    Parameters
    ----------
    y
        The neurons' activities, shape (N, K), one column for each input.
    W
        The weights: a state of the flow that `FastNeurons` wraps.
    """

    y: Array = eqx.field(converter=jnp.asarray)
    W: PyTree[Array]


@final
class FastNeurons(eqx.Module):
    r"""A plastic network with its neurons' dynamics: two time scales in one flow.

    .. math::  \epsilon\, \dot y = -y + W D y + f, \qquad \dot W = \text{plasticity}(y, W), \qquad \epsilon = \tau_y / \tau_W,

    in units of the weights' time constant. Every input has its own column of activities, as if all were present at the same
    time. As ε → 0 the activities follow their steady state and the weights follow the wrapped flow, with an error
    proportional to ε, as long as the steady state is stable.

    Parameters
    ----------
    flow
        A `HebbianFlow` or a `SimilarityMatching` circuit with the exact steady state (`order=None`).
    epsilon
        The neurons' time constant over the weights', positive.

    Raises
    ------
    ValueError
        If the flow is neither, or is expanded, or ε is not positive.

    References
    ----------
    arXiv:2510.02765, Eqs. 1, 23 and 38, before the steady state is put in. A. N. Tikhonov, Mat. Sb. 31, 575 (1952).

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> hebbian = cf.models.HebbianFlow(f=[0.5, 0.2], decay=1.0)
    >>> network = cf.models.FastNeurons(hebbian, epsilon=0.01)
    >>> slow = cf.integrate(hebbian, jnp.zeros((2, 2)), 1.0).final_state
    >>> both = cf.integrate(network, network.at_rest(jnp.zeros((2, 2))), 1.0).final_state
    >>> float(abs(both.W - slow).max()) < 0.01
    True
    """

    flow: HebbianFlow | SimilarityMatching
    epsilon: Float[Array, ""]

    def __init__(self, flow: HebbianFlow | SimilarityMatching, epsilon: float | ArrayLike):
        if not isinstance(flow, (HebbianFlow, SimilarityMatching)):
            raise ValueError(
                f"`flow` must be a HebbianFlow or a SimilarityMatching circuit, but is {type(flow).__name__}."
            )
        order = flow.order if isinstance(flow, HebbianFlow) else flow.network.order
        if order is not None:
            raise ValueError(
                f"`flow` must have the exact steady state, order=None, but is expanded to order {order}."
            )
        self.flow = flow
        self.epsilon = _checks.float64_array("epsilon", epsilon)
        _checks.require_shape("epsilon", self.epsilon, (), "()")
        if not _checks.is_traced(self.epsilon):
            _checks.positive_number("epsilon", float(self.epsilon))

    def __call__(self, t: Time, state: NetworkState, args: Args = None) -> NetworkState:
        """The velocity (ẏ, Ẇ); the flow is autonomous, so `t` and `args` are ignored."""
        self.check_state(state)
        rate = self.flow.neural_velocity(state.y, state.W) / self.epsilon
        return NetworkState(rate, self.flow.plasticity(state.y, state.W))

    def at_rest(self, W: PyTree[Array]) -> NetworkState:
        """The state with the weights W and the activities at rest."""
        W = jtu.tree_map(jnp.asarray, W)
        self.flow.check_state(W)
        return NetworkState(self.flow.steady_activity(W), W)

    def check_state(self, state: NetworkState) -> None:
        """Raise ValueError if the activities or the weights do not have the shapes that this network moves."""
        if not isinstance(state, NetworkState):
            raise ValueError(
                f"The state of FastNeurons must be NetworkState(y, W), but is {type(state).__name__}."
            )
        self.flow.check_state(state.W)
        f = self.flow.f if isinstance(self.flow, HebbianFlow) else self.flow.network.f
        _checks.require_shape("y", state.y, f.shape, "(N, K)")

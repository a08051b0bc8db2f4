"""The discrete learning rule, as maps: full-batch descent on any flow, and minibatch descent on data."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.flows.curl import CurlFlow, Weights


@final
class DescentMap(eqx.Module):
    r"""Full-batch descent: Euler steps of a flow, after which each layer may be rescaled to its norm.

    .. math::  y \leftarrow y + \eta F(t_n, y), \qquad t_n = n \eta

    On a `CurlFlow` it is the paper's curl descent. With `renormalise` every layer is then brought back to the Frobenius norm
    it had before the step. The paper rescales to the norm before the *first* step, which is the same up to rounding errors,
    because every step restores it. As η → 0 the rescaled map becomes the flow of `NormConstrained`.

    A `GramFlow` is stepped as the network it stands for, Γσ ← (I + η Bσ)ᵀ Γσ (I + η Bσ), which is exact.

    Parameters
    ----------
    flow
        Any vector field f(t, y, args) over a pytree of layers.
    learning_rate
        The step η, in units of the flow's time, positive.
    renormalise
        Whether to rescale every layer after every step.

    Raises
    ------
    ValueError
        If `flow` cannot be called or the learning rate is not positive; or, when a computation starts, if the flow refuses
        the state or a layer to be rescaled is zero.

    References
    ----------
    arXiv:2510.02765, Eq. 5, and Section 5, "Simulations".

    Examples
    --------
    >>> import curlflow as cf
    >>> descent = cf.DescentMap(cf.CurlFlow(S=[1.0, 2.0], d1=[1, -1], d2=[1, 1]), learning_rate=0.1)
    >>> W = cf.Weights(W1=[[1.0, 0.0], [0.0, 1.0]], W2=[[1.0, 0.5]])
    >>> descent.step(0, W).W2
    Array([[1.  , 0.65]], dtype=float64)
    """

    flow: Any
    learning_rate: Float[Array, ""]
    renormalise: bool = eqx.field(static=True)

    def __init__(self, flow: Any, learning_rate: ArrayLike, renormalise: bool = False):
        _checks.require_flow(flow)
        self.flow = flow
        self.learning_rate = _learning_rate(learning_rate)
        self.renormalise = bool(renormalise)

    def step(self, n: Any, y: PyTree[Array], args: Any = None) -> PyTree[Array]:
        """The state after step number n from the state y."""
        if hasattr(self.flow, "descend"):
            moved = self.flow.descend(y, self.learning_rate)
        else:
            velocity = self.flow(n * self.learning_rate, y, args)
            moved = jtu.tree_map(lambda layer, rate: layer + self.learning_rate * rate, y, velocity)
        return _rescaled(self.flow, moved, y) if self.renormalise else moved

    @property
    def loss(self) -> Any:
        """The flow's loss; absent where the flow has none."""
        return self.flow.loss

    def gradient_flow(self) -> "DescentMap":
        """Descent with the same step on the flow's gradient flow."""
        return DescentMap(self.flow.gradient_flow(), self.learning_rate, self.renormalise)

    def check_state(self, y: PyTree[Array]) -> None:
        """Raise ValueError if the flow refuses `y`, or if a layer that must be rescaled is zero."""
        _checks.require_state(self.flow, y)
        if self.renormalise:
            _require_nonzero_layers(y)


@final
class MinibatchDescent(eqx.Module):
    r"""Minibatch descent of a two-layer linear network on data: one step of this map is one epoch.

    Every epoch divides the samples at random into batches B, and takes one step of curl descent on each,

    .. math::

        W_1 \leftarrow W_1 + \eta_B\, W_2^\top G_B D_1, \qquad W_2 \leftarrow W_2 + \eta_B\, G_B W_1^\top D_2, \qquad
        G_B = \frac{1}{|B|} \sum_{\mu \in B} (y_\mu - W_2 W_1 x_\mu)\, x_\mu^\top,

    with η_B = η |B| / samples, so that an epoch takes the time η of the flow `mean_flow`, and, with `renormalise`, brings
    both layers back to their norms after every batch. As η → 0 the mean of the weights at a given time approaches the flow's
    like η, and their fluctuations vanish like η^(3/2): the batches of one epoch add up to the full gradient, so that only
    their order, an effect of order η² per epoch, is random.

    Parameters
    ----------
    X
        Inputs, shape (samples, M).
    targets
        What the network shall answer to them, shape (samples, P), or (samples,) for P = 1.
    d1, d2
        Signs of the hidden layer's rule (M,) and of the readout's (N,), each +1 or −1.
    learning_rate
        The time η per epoch, positive.
    batch
        Samples per batch; must divide the number of samples.
    key
        JAX random key; the division in epoch n comes from `fold_in(key, n)`, so that the map is a function of n.
    renormalise
        Whether to bring both layers back to their norms after every batch, as the paper does.

    Raises
    ------
    ValueError
        If shapes do not fit together, signs are not ±1, or a number is out of range.

    References
    ----------
    arXiv:2510.02765, Eq. 5, and Section 5, "Simulations".

    Examples
    --------
    >>> import curlflow as cf, jax, jax.numpy as jnp
    >>> X = jax.random.normal(jax.random.key(0), (20, 3))
    >>> descent = cf.MinibatchDescent(
    ...     X, X @ jnp.ones(3), [1, 1, -1], [1, 1], learning_rate=0.1, batch=5, key=jax.random.key(1)
    ... )
    >>> W = cf.ensembles.gaussian_weights(jax.random.key(2), N=2, M=3)
    >>> descent.step(0, W).W1.shape
    (2, 3)
    """

    X: Float[Array, "samples inputs"]
    targets: Float[Array, "samples outputs"]
    d1: Float[Array, " inputs"]
    d2: Float[Array, " hidden"]
    learning_rate: Float[Array, ""]
    key: PRNGKeyArray
    batch: int = eqx.field(static=True)
    renormalise: bool = eqx.field(static=True)

    def __init__(
        self,
        X: ArrayLike,
        targets: ArrayLike,
        d1: ArrayLike,
        d2: ArrayLike,
        *,
        learning_rate: ArrayLike,
        batch: int,
        key: PRNGKeyArray,
        renormalise: bool = True,
    ):
        self.X = _checks.float64_array("X", X)
        if self.X.ndim != 2:
            raise ValueError(f"`X` must have shape (samples, M), but has shape {self.X.shape}.")
        targets = _checks.float64_array("targets", targets)
        self.targets = targets[:, None] if targets.ndim == 1 else targets
        if self.targets.ndim != 2 or len(self.targets) != len(self.X):
            raise ValueError(
                f"`targets` must have shape (samples, P) = ({len(self.X)}, P), but has shape {targets.shape}."
            )
        rule = CurlFlow(jnp.zeros((self.targets.shape[1], self.X.shape[1])), d1, d2)
        self.d1, self.d2 = rule.d1, rule.d2
        self.learning_rate = _learning_rate(learning_rate)
        self.batch = _checks.positive_integer("batch", batch)
        if len(self.X) % self.batch:
            raise ValueError(f"`batch` must divide the number of samples, {len(self.X)}, but is {batch}.")
        self.key = _checks.random_key("key", key)
        self.renormalise = bool(renormalise)

    def step(self, n: Any, y: Weights, args: Any = None) -> Weights:
        """The weights after epoch number n from the weights y."""
        epoch = jnp.asarray(n).astype(jnp.uint32)
        order = jax.random.permutation(jax.random.fold_in(self.key, epoch), len(self.X))
        batches = order.reshape(-1, self.batch)
        return jax.lax.scan(lambda y, members: (self._descend(y, members), None), y, batches)[0]

    def mean_flow(self) -> CurlFlow:
        """The flow followed as the learning rate shrinks: C = XᵀX/samples, and S the least-squares map to the targets."""
        C = self.X.T @ self.X / len(self.X)
        S = jnp.linalg.lstsq(self.X, self.targets)[0].T
        return CurlFlow(S, self.d1, self.d2, (C + C.T) / 2)

    def loss(self, y: Weights) -> Float[Array, ""]:
        """Half the mean squared error over the samples, summed over outputs."""
        return ((self.targets - self.X @ y.end_to_end.T) ** 2).sum() / (2 * len(self.X))

    def gradient_flow(self) -> "MinibatchDescent":
        """Stochastic gradient descent on the same data: every sign +1."""
        every_sign = (jnp.ones_like(self.d1), jnp.ones_like(self.d2))
        return eqx.tree_at(lambda descent: (descent.d1, descent.d2), self, every_sign)

    def check_state(self, y: Weights) -> None:
        """Raise ValueError if y does not have the shapes of this network, or if a layer that must be rescaled is zero."""
        CurlFlow(jnp.zeros((self.targets.shape[1], self.X.shape[1])), self.d1, self.d2).check_state(y)
        if self.renormalise:
            _require_nonzero_layers(y)

    def _descend(self, y: Weights, members: Int[Array, " batch"]) -> Weights:
        """One step on one batch. Its length η |B| / samples times the mean over the batch is η / samples times the sum."""
        X = self.X[members]
        residual = self.targets[members] - (X @ y.W1.T) @ y.W2.T
        G = self.learning_rate / len(self.X) * (residual.T @ X)
        moved = Weights(y.W1 + y.W2.T @ (G * self.d1), y.W2 + (G @ y.W1.T) * self.d2)
        return _rescaled(self, moved, y) if self.renormalise else moved


def _learning_rate(value: ArrayLike) -> Float[Array, ""]:
    rate = _checks.float64_array("learning_rate", value)
    _checks.require_shape("learning_rate", rate, (), "()")
    if not _checks.is_traced(rate):
        _checks.positive_number("learning_rate", float(rate))
    return rate


def _rescaled(flow: Any, y: PyTree[Array], like: PyTree[Array]) -> PyTree[Array]:
    """The state y with every layer brought to the norm that it has in the state `like`."""
    if hasattr(flow, "rescale"):
        return flow.rescale(y, like)

    def rescale(layer: Array, before: Array) -> Array:
        return layer * jnp.sqrt(jnp.vdot(before, before) / jnp.vdot(layer, layer))

    return jtu.tree_map(rescale, y, like)


def _require_nonzero_layers(y: PyTree[Array]) -> None:
    for path, layer in jtu.tree_leaves_with_path(y):
        if not _checks.is_traced(layer) and not jnp.any(layer):
            raise ValueError(
                f"Every layer must have a nonzero norm to be rescaled to it, but y{jtu.keystr(path)} is zero."
            )

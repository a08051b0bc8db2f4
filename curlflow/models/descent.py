"""The discrete learning rule, as maps: full-batch descent on any flow, and minibatch descent on data."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.models.constrained import NormConstrained
from curlflow.models.norms import FreeLeaves, free_leaves, require_nonzero_norms, split
from curlflow.system import (
    Args,
    DataFlow,
    DataSource,
    Flow,
    State,
    check_state,
    euler_step,
    handed_on,
    require_data_flow,
    require_data_source,
    require_flow,
    rescaled,
)

RESCALED = "Every layer must have a nonzero norm to be rescaled to it"


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
    free
        Leaves that are not rescaled, such as biases: a pytree like the state with True for those that are free. None means
        none of them, or, where the flow is `NormConstrained`, those which it leaves free.

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

    flow: Flow
    learning_rate: Float[Array, ""]
    renormalise: bool = eqx.field(static=True)
    free: FreeLeaves | None = eqx.field(static=True)

    def __init__(
        self,
        flow: Flow,
        learning_rate: ArrayLike,
        renormalise: bool = False,
        free: PyTree[bool] | None = None,
    ):
        require_flow(flow)
        self.flow = flow
        self.learning_rate = _learning_rate(learning_rate)
        self.renormalise = bool(renormalise)
        self.free = flow.free if free is None and isinstance(flow, NormConstrained) else free_leaves(free)

    def step(self, n: Any, y: State, args: Args = None) -> State:
        """The state after step number n from the state y."""
        moved = euler_step(self.flow, n * self.learning_rate, y, self.learning_rate, args)
        return _without(self.free, rescaled(self.flow, moved, y), moved) if self.renormalise else moved

    @property
    def loss(self) -> Callable[[State], Float[Array, ""]]:
        """The flow's loss; absent where the flow has none."""
        return handed_on(self.flow, "loss")

    def gradient_flow(self) -> "DescentMap":
        """Descent with the same step on the flow's gradient flow."""
        return eqx.tree_at(lambda descent: descent.flow, self, handed_on(self.flow, "gradient_flow")())

    def check_state(self, y: State) -> None:
        """Raise ValueError if the flow refuses `y`, or if a layer that must be rescaled is zero."""
        check_state(self.flow, y)
        if self.renormalise:
            require_nonzero_norms(y, self.free, RESCALED)


@final
class MinibatchDescent(eqx.Module):
    r"""Minibatch descent of a network on data: one step of this map is one epoch.

    Every epoch divides the samples at random into batches B, and takes one step of the flow's rule on each,

    .. math::  W \leftarrow W + \eta_B F_B(W), \qquad \eta_B = \eta |B| / \text{samples},

    with F_B the flow's velocity if B were the data, so that an epoch takes the time η of the flow. With `renormalise` every
    layer is brought back to its norm after every batch, as the paper does. As η → 0 the mean of the weights at a given time
    approaches the flow's (with `renormalise`, that of `NormConstrained(flow)`) like η, and their fluctuations vanish
    like η^(3/2): the batches of one epoch add up to the full gradient, so that only their order, an effect of order η² per
    epoch, is random.

    With a `teacher`, every batch is drawn anew and no sample is seen twice: the population limit for every activation, also
    where its loss has no closed form (`PopulationLoss`). As η → 0 fluctuations then vanish like η^(1/2) only.

    Parameters
    ----------
    flow
        A flow over a data set, such as `StudentFlow`: it has `X`, `targets` and `velocity_on(W, X, targets)`.
    learning_rate
        The time η per epoch, positive.
    batch_size
        Samples per batch; must divide the number of samples.
    key
        JAX random key; the division in epoch n comes from `fold_in(key, n)`, so that the map is a function of n.
    renormalise
        Whether to bring every layer back to its norm after every batch.
    free
        Leaves that are not brought back, such as biases: a pytree like the state with True for those that are free.
    teacher
        None, or what draws fresh data: an object with `draw(key, samples)`, such as `Teacher`. Of the flow's data only the
        number of samples then counts, which sets how many batches an epoch has.

    Raises
    ------
    ValueError
        If the flow has no data, the batch does not divide it, or a number is out of range.

    References
    ----------
    arXiv:2510.02765, Eq. 5, and Section 5, "Simulations".

    Examples
    --------
    >>> import curlflow as cf, jax, jax.numpy as jnp
    >>> X = jax.random.normal(jax.random.key(0), (20, 3))
    >>> flow = cf.models.StudentFlow(X, X @ jnp.ones(3), cf.Weights([1, 1, -1], [1, 1]), activation="linear")
    >>> descent = cf.models.MinibatchDescent(flow, learning_rate=0.1, batch_size=5, key=jax.random.key(1))
    >>> W = cf.ensembles.gaussian_weights(jax.random.key(2), N=2, M=3)
    >>> descent.step(0, W).W1.shape
    (2, 3)
    """

    flow: DataFlow
    learning_rate: Float[Array, ""]
    key: PRNGKeyArray
    teacher: DataSource | None
    batch_size: int = eqx.field(static=True)
    renormalise: bool = eqx.field(static=True)
    free: FreeLeaves | None = eqx.field(static=True)

    def __init__(
        self,
        flow: DataFlow,
        *,
        learning_rate: ArrayLike,
        batch_size: int,
        key: PRNGKeyArray,
        renormalise: bool = True,
        free: PyTree[bool] | None = None,
        teacher: DataSource | None = None,
    ):
        self.flow = require_data_flow(flow)
        self.teacher = None if teacher is None else require_data_source(teacher)
        self.learning_rate = _learning_rate(learning_rate)
        self.batch_size = _checks.positive_integer("batch_size", batch_size)
        if len(flow.X) % self.batch_size:
            raise ValueError(
                f"`batch_size` must divide the number of samples, {len(flow.X)}, but is {batch_size}."
            )
        self.key = _checks.random_key("key", key)
        self.renormalise = bool(renormalise)
        self.free = free_leaves(free)

    def step(self, n: Any, y: State, args: Args = None) -> State:
        """The weights after epoch number n from the weights y."""
        key = jax.random.fold_in(self.key, jnp.asarray(n).astype(jnp.uint32))
        samples = len(self.flow.X)
        if self.teacher is not None:
            batches, data = jax.random.split(key, samples // self.batch_size), self._fresh
        else:
            batches, data = jax.random.permutation(key, samples).reshape(-1, self.batch_size), self._members
        return jax.lax.scan(lambda y, batch: (self._descend(y, *data(batch)), None), y, batches)[0]

    @property
    def loss(self) -> Callable[[State], Float[Array, ""]]:
        """The flow's loss, over all of its samples; absent where the flow has none."""
        return handed_on(self.flow, "loss")

    def gradient_flow(self) -> "MinibatchDescent":
        """Stochastic gradient descent on the same data: the flow's gradient flow in its place."""
        return eqx.tree_at(lambda descent: descent.flow, self, handed_on(self.flow, "gradient_flow")())

    def check_state(self, y: State) -> None:
        """Raise ValueError if the flow refuses y, or if a layer that must be rescaled is zero."""
        check_state(self.flow, y)
        if self.renormalise:
            require_nonzero_norms(y, self.free, RESCALED)

    def _fresh(self, key: PRNGKeyArray) -> tuple[Array, Array]:
        assert self.teacher is not None
        return self.teacher.draw(key, self.batch_size)

    def _members(self, batch: Int[Array, " batch"]) -> tuple[Array, Array]:
        return self.flow.X[batch], self.flow.targets[batch]

    def _descend(self, y: State, X: Array, targets: Array) -> State:
        step = self.learning_rate * (self.batch_size / len(self.flow.X))
        velocity = self.flow.velocity_on(y, X, targets)
        moved = jtu.tree_map(lambda layer, rate: layer + step * rate, y, velocity)
        return _without(self.free, rescaled(self.flow, moved, y), moved) if self.renormalise else moved


def _learning_rate(value: ArrayLike) -> Float[Array, ""]:
    rate = _checks.float64_array("learning_rate", value)
    _checks.require_shape("learning_rate", rate, (), "()")
    if not _checks.is_traced(rate):
        _checks.positive_number("learning_rate", float(rate))
    return rate


def _without(free: FreeLeaves | None, rescaled: State, moved: State) -> State:
    """The rescaled state, with the leaves that are free as they moved."""
    return eqx.combine(split(rescaled, free)[0], split(moved, free)[1])

"""Hebbian plasticity in linear recurrent networks: excitatory and inhibitory neurons, Hebbian and anti-Hebbian synapses."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.system import Args, Time


@final
class HebbianFlow(eqx.Module):
    r"""Hebbian plasticity with decay in a linear recurrent network whose neurons are fast.

    The neurons follow :math:`\tau_y \dot y = -y + W D y + f` and rest at :math:`y = (I - W D)^{-1} f` before the weights have
    moved. In units of the weights' time constant,

    .. math::  \dot W = \langle y y^\top \rangle \odot M - \gamma W,

    with D = diag(d) and the average over the inputs f. A −1 in `d` makes a neuron inhibitory; a −1 in the mask `M` makes a
    synapse anti-Hebbian. W holds magnitudes: the synapse from j to i acts with the strength W_ij d_j. With an `order` the
    outer product is replaced by its expansion in W up to that order,

    .. math::  \langle y y^\top \rangle \approx \sum_{a + b \le \mathrm{order}} (W D)^a \,\Sigma\, (D W^\top)^b,
               \qquad \Sigma = \langle f f^\top \rangle,

    which for order 1 is the paper's rule :math:`\Sigma + W D \Sigma + \Sigma D W^\top`.

    Parameters
    ----------
    f
        External inputs, shape (N, K) for K equally likely ones, held long enough for the neurons to settle on each; shape
        (N,) means one that never changes.
    d
        Signs of the neurons, shape (N,), +1 excitatory and −1 inhibitory; None means all excitatory.
    M
        Signs of the synapses' rules, shape (N, N), +1 Hebbian and −1 anti-Hebbian, in row i and column j that of the synapse
        from j to i; None means all Hebbian.
    decay
        Rate γ of weight decay, in units of one over the weights' time constant.
    order
        Order of the expansion in W, a whole number; None means the exact steady state.

    Raises
    ------
    ValueError
        If shapes do not fit together, signs are not ±1, the decay is negative, a number is not finite, or JAX is set to
        float32.

    Notes
    -----
    The neurons reach their steady state only while every eigenvalue of W D has a real part below 1; beyond that the formula
    goes on, and the network it describes does not. `neural_growth_rate` tells. Nothing keeps W from changing sign.

    References
    ----------
    arXiv:2510.02765: excitatory–inhibitory networks, Eqs. 1–2 and 33; Hebbian/anti-Hebbian networks, Eqs. 23–24.

    Examples
    --------
    Two excitatory neurons and an inhibitory one:

    >>> import curlflow as cf, jax.numpy as jnp
    >>> flow = cf.models.HebbianFlow(f=[1.0, 0.0, 0.5], d=[1, 1, -1], decay=1.0)
    >>> flow(0.0, jnp.zeros((3, 3)))
    Array([[1.  , 0.  , 0.5 ],
           [0.  , 0.  , 0.  ],
           [0.5 , 0.  , 0.25]], dtype=float64)
    """

    f: Float[Array, "neurons patterns"]
    d: Float[Array, " neurons"]
    M: Float[Array, "neurons neurons"]
    decay: Float[Array, ""]
    order: int | None = eqx.field(static=True)

    def __init__(
        self,
        f: ArrayLike,
        d: ArrayLike | None = None,
        M: ArrayLike | None = None,
        *,
        decay: float | ArrayLike = 0.0,
        order: int | None = None,
    ):
        f = _checks.float64_array("f", f)
        self.f = f[:, None] if f.ndim == 1 else f
        if self.f.ndim != 2 or self.f.size == 0:
            raise ValueError(f"`f` must have shape (N, K), or (N,) for K = 1, but has shape {f.shape}.")
        N = len(self.f)
        self.d = jnp.ones(N) if d is None else _checks.float64_array("d", d)
        _checks.require_shape("d", self.d, (N,), "(N,)")
        _checks.require_signs("d", self.d)
        self.M = jnp.ones((N, N)) if M is None else _checks.float64_array("M", M)
        _checks.require_shape("M", self.M, (N, N), "(N, N)")
        _checks.require_signs("M", self.M)
        self.decay = _checks.float64_array("decay", decay)
        _checks.require_shape("decay", self.decay, (), "()")
        if not _checks.is_traced(self.decay):
            _checks.non_negative_number("decay", float(self.decay))
        self.order = None if order is None else _order(order)

    def __call__(
        self, t: Time, W: Float[Array, "neurons neurons"], args: Args = None
    ) -> Float[Array, "neurons neurons"]:
        """The velocity Ẇ at the weights W; the flow is autonomous, so `t` and `args` are ignored."""
        self.check_state(W)
        if self.order is None:
            return self.plasticity(self.steady_activity(W), W)
        return self._correlation_expanded(W, self.order) * self.M - self.decay * W

    def steady_activity(self, W: Float[Array, "neurons neurons"]) -> Float[Array, "neurons patterns"]:
        """The activities y = (I − W D)⁻¹ f at which the neurons rest, one column for each input."""
        return jnp.linalg.solve(jnp.eye(len(self.d)) - W * self.d, self.f)

    def neural_velocity(
        self, y: Float[Array, "neurons patterns"], W: Float[Array, "neurons neurons"]
    ) -> Float[Array, "neurons patterns"]:
        """−y + W D y + f: the velocity of the activities, in units of one over the neurons' time constant."""
        return -y + (W * self.d) @ y + self.f

    def plasticity(
        self, y: Float[Array, "neurons patterns"], W: Float[Array, "neurons neurons"]
    ) -> Float[Array, "neurons neurons"]:
        """⟨y yᵀ⟩ ⊙ M − γ W: the velocity of the weights while the activities are y."""
        return (y @ y.T / y.shape[1]) * self.M - self.decay * W

    def neural_growth_rate(self, W: Float[Array, "neurons neurons"]) -> Float[Array, ""]:
        """The largest real part of the eigenvalues of W D − I: negative where the neurons do reach their steady state."""
        return jnp.linalg.eigvals(W * self.d).real.max() - 1.0

    def input_covariance(self) -> Float[Array, "neurons neurons"]:
        """Σ = ⟨f fᵀ⟩, shape (N, N)."""
        return self.f @ self.f.T / self.f.shape[1]

    @property
    def signs(self) -> Float[Array, "neurons neurons"]:
        """d_i d_j M_ij, shape (N, N): with which sign every synapse follows the slope of the `objective`."""
        return jnp.outer(self.d, self.d) * self.M

    def objective(self, W: Float[Array, "neurons neurons"]) -> Float[Array, ""]:
        r"""The function whose gradient, with the sign of every synapse, the flow follows on symmetric weights.

        .. math::  L = \operatorname{tr}\bigl(\Sigma D - \Sigma (D - W)^{-1}\bigr)
                   + \tfrac{\gamma}{2} \sum_{ij} \mathrm{signs}_{ij} W_{ij}^2, \qquad
                   \dot W = -\mathrm{signs} \odot \nabla L, \qquad \mathrm{signs}_{ij} = d_i d_j M_{ij}

        where W and M are symmetric, with the gradient among symmetric matrices in the Frobenius inner product: with y = D (D
        − W)⁻¹ f a change dW changes fᵀ(D − W)⁻¹f by (D y)ᵀ dW (D y). Expanded to an order, the first term is
        :math:`-\sum_{k=0}^{\mathrm{order}} \operatorname{tr}(\Sigma D (W D)^{k+1})`. The rule descends L if all `signs` are
        +1, climbs it if all are −1, and is curl descent if they are mixed.

        References
        ----------
        arXiv:2510.02765, Eq. 32, which has half of it for order 1 and all signs +1: right if the derivative by an entry
        counts that entry's mirror image too. The general case is not in the paper.
        """
        self.check_state(W)
        decay = self.decay / 2 * jnp.sum(self.signs * W**2)
        return decay - jnp.trace(self.input_covariance() @ (self.d[:, None] * self._powers(W)))

    def check_state(self, W: Float[Array, "neurons neurons"]) -> None:
        """Raise ValueError if W is not a matrix of shape (N, N)."""
        N = len(self.d)
        if not isinstance(W, (Array, np.ndarray)):
            raise ValueError(f"The state of a HebbianFlow must be a matrix W, but is {type(W).__name__}.")
        _checks.require_shape("W", W, (N, N), "(N, N)")

    def _correlation_expanded(self, W: Array, order: int) -> Float[Array, "neurons neurons"]:
        powers = [self.f]
        for _ in range(order):
            powers.append((W * self.d) @ powers[-1])
        # partial[b] = Σ_{a ≤ b} (W D)^a f
        partial = list(jnp.cumsum(jnp.stack(powers), axis=0))
        outer = jnp.stack([power @ partial[order - a].T for a, power in enumerate(powers)])
        return outer.sum(axis=0) / self.f.shape[1]

    def _powers(self, W: Array) -> Float[Array, "neurons neurons"]:
        """Σ_k (W D)^{k+1} up to the order, or all of it."""
        WD = W * self.d
        if self.order is None:
            return jnp.linalg.solve(jnp.eye(len(self.d)) - WD, WD)
        power, total = WD, WD
        for _ in range(self.order):
            power = power @ WD
            total = total + power
        return total


@final
class SymmetricWeights(eqx.Module):
    r"""A Hebbian flow among symmetric weights, in coordinates of which each is free.

    With a symmetric mask Ẇ is symmetric up to the decay, so symmetric weights stay symmetric, and the antisymmetric part of
    any others decays as :math:`e^{-\gamma t}`. The coordinates are the diagonal of W and √2 times the entries above it, row
    by row, which keep the inner product: a gradient in these coordinates is a gradient in the Frobenius inner product. In
    them the flow is that of one objective, with a sign of its own for every synapse:

    .. math::  \dot x = -\mathrm{signs} \odot \nabla \mathrm{loss}(x).

    Parameters
    ----------
    flow
        A `HebbianFlow` with a symmetric mask.

    Raises
    ------
    ValueError
        If the flow is no `HebbianFlow`, or its mask is not symmetric.

    References
    ----------
    arXiv:2510.02765, Sections A.2.1 and A.3. That mixed rules are curl descent here is not in the paper.

    Examples
    --------
    Among excitatory neurons a gradient; with an inhibitory one, curl descent with the signs of its synapses flipped:

    >>> import curlflow as cf, jax
    >>> points = jax.random.normal(jax.random.key(0), (3, 6), "float64") / 4
    >>> excitatory = cf.models.SymmetricWeights(cf.models.HebbianFlow(f=[1.0, 0.3, 0.5]))
    >>> cf.is_gradient(excitatory, points).is_gradient
    True
    >>> mixed = cf.models.SymmetricWeights(cf.models.HebbianFlow(f=[1.0, 0.3, 0.5], d=[1, 1, -1]))
    >>> found = cf.is_gradient(mixed, points)
    >>> found.is_gradient, found.metric
    (False, 'indefinite')
    >>> found.diagonal_metric.round(9), mixed.signs
    (array([ 1.,  1., -1.,  1., -1.,  1.]), Array([ 1.,  1., -1.,  1., -1.,  1.], dtype=float64))
    """

    flow: HebbianFlow

    def __init__(self, flow: HebbianFlow):
        if not isinstance(flow, HebbianFlow):
            raise ValueError(f"`flow` must be a HebbianFlow, but is {type(flow).__name__}.")
        if not _checks.is_traced(flow.M) and (np.asarray(flow.M) != np.asarray(flow.M).T).any():
            raise ValueError(
                "`flow` must have a symmetric mask M to keep symmetric weights symmetric, but has not."
            )
        self.flow = flow

    def __call__(
        self, t: Time, x: Float[Array, " coordinates"], args: Args = None
    ) -> Float[Array, " coordinates"]:
        """The velocity of the coordinates x."""
        self.check_state(x)
        return self.reduce(self.flow(t, self.lift(x), args))

    def lift(self, x: Float[Array, " coordinates"]) -> Float[Array, "neurons neurons"]:
        """The symmetric weights whose coordinates are x."""
        N = len(self.flow.d)
        rows, columns = np.triu_indices(N)
        above = jnp.zeros((N, N)).at[rows, columns].set(x * np.where(rows == columns, 0.5, np.sqrt(0.5)))
        return above + above.T

    def reduce(self, W: Float[Array, "neurons neurons"]) -> Float[Array, " coordinates"]:
        """The coordinates of the symmetric weights W, shape (N (N + 1) / 2,)."""
        rows, columns = np.triu_indices(len(self.flow.d))
        return W[rows, columns] * np.where(rows == columns, 1.0, np.sqrt(2.0))

    @property
    def signs(self) -> Float[Array, " coordinates"]:
        """With which sign every coordinate follows the slope of the loss: d_i d_j M_ij."""
        return self.flow.signs[np.triu_indices(len(self.flow.d))]

    def loss(self, x: Float[Array, " coordinates"]) -> Float[Array, ""]:
        """The wrapped flow's `HebbianFlow.objective`; it falls along every orbit if all signs are +1."""
        return self.flow.objective(self.lift(x))

    def check_state(self, x: Float[Array, " coordinates"]) -> None:
        """Raise ValueError if x does not hold N (N + 1) / 2 coordinates."""
        N = len(self.flow.d)
        _checks.require_shape("x", x, (N * (N + 1) // 2,), "(N (N + 1) / 2,)")


def _order(order: int) -> int:
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)) or order < 0:
        raise ValueError(f"`order` must be a whole number of at least 0, or None, but is {order!r}.")
    return int(order)

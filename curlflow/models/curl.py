"""Curl flow of the two-layer linear network, the subject of the paper (its Eq. 6)."""

from functools import partial
from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.system import Args, Time


@final
class Weights(eqx.Module):
    """The weights of a two-layer network, as a pytree with leaves `W1` and `W2`.

    Parameters
    ----------
    W1
        Input-to-hidden weights, shape (N, M): N hidden units, M inputs.
    W2
        Hidden-to-output weights, shape (P, N): P outputs.

    Examples
    --------
    >>> import curlflow as cf
    >>> W = cf.Weights(W1=[[1.0, 0.5], [0.0, 2.0]], W2=[[3.0, 1.0]])
    >>> W.end_to_end
    Array([[3. , 3.5]], dtype=float64)
    """

    W1: Array = eqx.field(converter=partial(_checks.as_array, "W1"))
    W2: Array = eqx.field(converter=partial(_checks.as_array, "W2"))

    @property
    def end_to_end(self) -> Float[Array, "outputs inputs"]:
        """The linear map W2 W1 from inputs to outputs that these weights implement, shape (P, M)."""
        return self.W2 @ self.W1


@final
class CurlFlow(eqx.Module):
    r"""Continuous-time curl descent of a two-layer linear network.

    With input covariance C and teacher map S the weights obey

    .. math::

        \dot W_1 = W_2^\top E\, C D_1, \qquad \dot W_2 = E\, C\, W_1^\top D_2, \qquad E = S - W_2 W_1,

    with D1 = diag(d1), D2 = diag(d2). A −1 in `d1` flips the learning rule of every synapse leaving that input; a −1 in
    `d2`, of every synapse leaving that hidden unit. All signs +1 is gradient flow on the loss ½ tr(E C Eᵀ); all signs
    −1 climbs it; anything else is the gradient flow of no function. The paper has P = 1 and C = I.

    Parameters
    ----------
    S
        The teacher's end-to-end map, shape (P, M); shape (M,) means P = 1.
    d1
        Signs of the hidden layer's rule, one per input, shape (M,), each +1 or −1.
    d2
        Signs of the readout layer's rule, one per hidden unit, shape (N,), each +1 or −1.
    C
        Input covariance, shape (M, M), symmetric positive semidefinite; None means the identity.

    Raises
    ------
    ValueError
        If shapes do not fit together, signs are not ±1, C is not symmetric positive semidefinite, a number is not finite,
        or JAX is set to float32.

    References
    ----------
    H. Ninou, J. Kadmon, N. A. Cayco-Gajic, "Curl Descent: Non-Gradient Learning Dynamics with Sign-Diverse Plasticity",
    NeurIPS 2025, arXiv:2510.02765, Eq. 6.

    Examples
    --------
    A network of two inputs and three hidden units, with the second input's rule flipped:

    >>> import curlflow as cf
    >>> flow = cf.CurlFlow(S=[1.0, 2.0], d1=[1, -1], d2=[1, 1, 1])
    >>> W = cf.Weights(W1=[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], W2=[[1.0, 0.0, 0.5]])
    >>> flow(
    ...     0.0, W, None
    ... ).W1  # each row is an entry of W2 times the error map [-0.5, 1.5], its second column flipped
    Array([[-0.5 , -1.5 ],
           [-0.  , -0.  ],
           [-0.25, -0.75]], dtype=float64)
    """

    S: Float[Array, "outputs inputs"]
    d1: Float[Array, " inputs"]
    d2: Float[Array, " hidden"]
    C: Float[Array, "inputs inputs"] | None

    def __init__(self, S: ArrayLike, d1: ArrayLike, d2: ArrayLike, C: ArrayLike | None = None):
        S = _checks.float64_array("S", S)
        self.S = S[None, :] if S.ndim == 1 else S
        if self.S.ndim != 2:
            raise ValueError(f"`S` must have shape (P, M), or (M,) for P = 1, but has shape {S.shape}.")
        M = self.S.shape[1]
        self.d1 = _checks.float64_array("d1", d1)
        _checks.require_shape("d1", self.d1, (M,), "(M,)")
        _checks.require_signs("d1", self.d1)
        self.d2 = _checks.float64_array("d2", d2)
        if self.d2.ndim != 1:
            raise ValueError(f"`d2` must have shape (N,), but has shape {self.d2.shape}.")
        _checks.require_signs("d2", self.d2)
        self.C = None if C is None else _checks.float64_array("C", C)
        if self.C is not None:
            _checks.require_shape("C", self.C, (M, M), "(M, M)")
            _checks.require_positive_semidefinite("C", self.C)

    def __call__(self, t: Time, W: Weights, args: Args = None) -> Weights:
        """The velocity (Ẇ1, Ẇ2) at the weights W; the flow is autonomous, so `t` and `args` are ignored."""
        self.check_state(W)
        EC = self._weighted_error(W)
        return Weights((W.W2.T @ EC) * self.d1, (EC @ W.W1.T) * self.d2)

    def tangent(self, t: Time, W: Weights, V: Weights, args: Args = None) -> Weights:
        """The Jacobian at the weights W times k tangent vectors at once.

        In layer l the vectors stand along an axis of length k before the last one: V.W1 has shape (N, k, M) and V.W2 has
        shape (P, k, N), which keeps every product with them contiguous in memory.
        """
        EC = self._weighted_error(W)
        dE = -(jnp.einsum("pn,nkm->pkm", W.W2, V.W1) + jnp.einsum("pkn,nm->pkm", V.W2, W.W1))
        dEC = dE if self.C is None else dE @ self.C
        dW1 = jnp.einsum("pkn,pm->nkm", V.W2, EC) + jnp.einsum("pn,pkm->nkm", W.W2, dEC)
        dW2 = jnp.einsum("pkm,nm->pkn", dEC, W.W1) + jnp.einsum("pm,nkm->pkn", EC, V.W1)
        return Weights(dW1 * self.d1, dW2 * self.d2)

    def error(self, W: Weights) -> Float[Array, "outputs inputs"]:
        """The error map E = S − W2 W1, shape (P, M)."""
        return self.S - W.end_to_end

    def loss(self, W: Weights) -> Float[Array, ""]:
        """The loss ½ tr(E C Eᵀ): half the mean squared error over inputs of covariance C."""
        return jnp.vdot(self.error(W), self._weighted_error(W)) / 2

    def conserved(self, W: Weights) -> Float[Array, "hidden hidden"]:
        r"""The conserved quantities, as a symmetric matrix of shape (N, N).

        Entry (i, j) is (W1 D1 W1ᵀ)_ij − d2_i (W2ᵀ W2)_ij where d2_i = d2_j. Where the signs differ nothing is conserved,
        and the entry is 0. Their drift along a computed trajectory measures the integrator's error.
        """
        balance = (W.W1 * self.d1) @ W.W1.T - self.d2[:, None] * (W.W2.T @ W.W2)
        return jnp.where(self.d2[:, None] * self.d2 > 0, balance, 0.0)

    def symmetries(self, W: Weights) -> Weights:
        """Where rotations among hidden units of equal sign move W: one direction per pair of them, on a leading axis.

        The flow commutes with these rotations, which change neither the end-to-end map nor the norm of a layer.
        """
        d2 = np.asarray(self.d2)
        i, j = np.nonzero(np.tril(d2[:, None] == d2, -1))
        (P, N), pair = W.W2.shape, np.arange(len(i))
        turned1 = jnp.zeros((len(i), *W.W1.shape)).at[pair, i].set(W.W1[j]).at[pair, j].set(-W.W1[i])
        turned2 = jnp.zeros((len(i), N, P)).at[pair, i].set(W.W2.T[j]).at[pair, j].set(-W.W2.T[i])
        return Weights(turned1, turned2.swapaxes(1, 2))

    def gradient_flow(self) -> "CurlFlow":
        """The same flow with every sign +1: gradient flow on the same loss."""
        return CurlFlow(self.S, jnp.ones_like(self.d1), jnp.ones_like(self.d2), self.C)

    def check_state(self, W: Weights) -> None:
        """Raise ValueError if W does not have the shapes this flow moves: W1 (N, M), W2 (P, N)."""
        if not isinstance(W, Weights):
            raise ValueError(f"The state of a CurlFlow must be Weights(W1, W2), but is {type(W).__name__}.")
        (P, M), (N,) = self.S.shape, self.d2.shape
        _checks.require_shape("W1", W.W1, (N, M), "(N, M)")
        _checks.require_shape("W2", W.W2, (P, N), "(P, N)")

    def _weighted_error(self, W: Weights) -> Float[Array, "outputs inputs"]:
        error = self.error(W)
        return error if self.C is None else error @ self.C

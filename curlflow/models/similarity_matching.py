"""A circuit of inputs, excitatory neurons and inhibitory interneurons with Hebbian plasticity, as for similarity matching."""

from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.models.hebbian import HebbianFlow
from curlflow.system import Args, Time


@final
class CircuitWeights(eqx.Module):
    """The weights of a `SimilarityMatching` circuit of F inputs, E excitatory and I inhibitory neurons, as a pytree.

    Parameters
    ----------
    feedforward
        From the inputs to the excitatory neurons, shape (E, F).
    to_inhibitory
        From the excitatory to the inhibitory neurons, shape (I, E).
    from_inhibitory
        From the inhibitory to the excitatory neurons, shape (E, I), as magnitudes: they act with a minus sign. None means the
        transpose of `to_inhibitory`, to which the circuit's plasticity keeps it once it is.

    Examples
    --------
    >>> import curlflow as cf
    >>> W = cf.models.CircuitWeights([[1.0, 0.5], [0.0, 2.0]], to_inhibitory=[[3.0, 1.0]])
    >>> W.disynaptic_inhibition
    Array([[9., 3.],
           [3., 1.]], dtype=float64)
    """

    feedforward: Array = eqx.field(converter=jnp.asarray)
    to_inhibitory: Array = eqx.field(converter=jnp.asarray)
    from_inhibitory: Array | None = eqx.field(
        converter=lambda W: None if W is None else jnp.asarray(W), default=None
    )

    @property
    def inhibition(self) -> Float[Array, "excitatory inhibitory"]:
        """The weights from the inhibitory to the excitatory neurons, shape (E, I)."""
        return self.to_inhibitory.T if self.from_inhibitory is None else self.from_inhibitory

    @property
    def disynaptic_inhibition(self) -> Float[Array, "excitatory excitatory"]:
        """The paper's M: how the excitatory neurons inhibit each other through the interneurons, shape (E, E)."""
        return self.inhibition @ self.to_inhibitory


@final
class SimilarityMatching(eqx.Module):
    r"""Hebbian plasticity of inputs → excitatory ⇄ inhibitory neurons: a circuit for similarity matching.

    It is `HebbianFlow` on a network with the blocks

    .. math::  W = \begin{pmatrix} 0 & 0 & 0 \\ W_{FE} & 0 & W_{IE} \\ 0 & W_{EI} & 0 \end{pmatrix}, \qquad
               D = \begin{pmatrix} I & & \\ & I & \\ & & -I \end{pmatrix},

    in which only the synapses that exist learn, and only the first neurons receive input. With M = W_IE W_EI the neurons rest
    at y_E = (I + M)⁻¹ W_FE f and y_I = W_EI y_E, and

    .. math::  \dot W_{FE} = \langle y_E f^\top \rangle - \gamma W_{FE}, \qquad
               \dot W_{EI} = \langle y_I y_E^\top \rangle - \gamma W_{EI} = \dot W_{IE}^\top.

    To third order in W, which `order=3` computes, these are (I − M) W_FE Σ, W_EI Σ_rec and its transpose, with the covariance
    Σ_rec = W_FE Σ W_FEᵀ.

    Parameters
    ----------
    f
        Inputs, shape (F, K) for K equally likely ones; shape (F,) means one that never changes.
    excitatory, inhibitory
        The numbers E and I of neurons that receive no input from outside.
    decay
        Rate γ of weight decay, in units of one over the weights' time constant.
    order
        Order of the expansion in W; None means the exact steady state. The paper has 3.

    Raises
    ------
    ValueError
        If a number of neurons is not a positive whole number, or as `HebbianFlow` does.

    References
    ----------
    arXiv:2510.02765, Section A.4, Eqs. 38–45; C. Pehlevan, T. Hu, D. B. Chklovskii, Neural Computation 27, 1461 (2015).

    Examples
    --------
    >>> import curlflow as cf
    >>> circuit = cf.models.SimilarityMatching(f=[1.0, 2.0], excitatory=1, inhibitory=1, order=3)
    >>> W = cf.models.CircuitWeights([[1.0, 0.5]], to_inhibitory=[[0.5]])
    >>> velocity = circuit(0.0, W)
    >>> velocity.feedforward, velocity.to_inhibitory  # (1 − M) W Σ and W_EI Σ_rec, with M = 0.25, Σ_rec = 4
    (Array([[1.5, 3. ]], dtype=float64), Array([[2.]], dtype=float64))
    """

    network: HebbianFlow
    sizes: tuple[int, int, int] = eqx.field(static=True)

    def __init__(
        self,
        f: ArrayLike,
        excitatory: int,
        inhibitory: int,
        *,
        decay: float | ArrayLike = 0.0,
        order: int | None = None,
    ):
        f = _checks.float64_array("f", f)
        if f.ndim not in (1, 2):
            raise ValueError(f"`f` must have shape (F, K), or (F,) for K = 1, but has shape {f.shape}.")
        E = _checks.positive_integer("excitatory", excitatory)
        I = _checks.positive_integer("inhibitory", inhibitory)  # noqa: E741
        self.sizes = (len(f), E, I)
        padding = [(0, E + I)] + [(0, 0)] * (f.ndim - 1)
        d = jnp.ones(len(f) + E + I).at[-I:].set(-1.0)
        self.network = HebbianFlow(jnp.pad(f, padding), d, decay=decay, order=order)

    def __call__(self, t: Time, W: CircuitWeights, args: Args = None) -> CircuitWeights:
        """The velocity of the weights W; the flow is autonomous, so `t` and `args` are ignored."""
        self.check_state(W)
        return self.blocks(self.network(t, self.matrix(W), args), W)

    def matrix(self, W: CircuitWeights) -> Float[Array, "neurons neurons"]:
        """The network's whole weight matrix, shape (F + E + I, F + E + I); zero where there is no synapse."""
        F, E, I = self.sizes  # noqa: E741
        return jnp.block(
            [
                [jnp.zeros((F, F + E + I))],
                [W.feedforward, jnp.zeros((E, E)), W.inhibition],
                [jnp.zeros((I, F)), W.to_inhibitory, jnp.zeros((I, I))],
            ]
        )

    def blocks(self, matrix: Float[Array, "neurons neurons"], like: CircuitWeights) -> CircuitWeights:
        """The blocks of a matrix in which there are synapses; without those from inhibitory neurons if `like` has none."""
        F, E, _ = self.sizes
        back = None if like.from_inhibitory is None else matrix[F : F + E, F + E :]
        return CircuitWeights(matrix[F : F + E, :F], matrix[F + E :, F : F + E], back)

    def steady_activity(self, W: CircuitWeights) -> Float[Array, "neurons patterns"]:
        """The activities of all neurons at rest: inputs, excitatory, inhibitory; one column for each input."""
        return self.network.steady_activity(self.matrix(W))

    def neural_velocity(
        self, y: Float[Array, "neurons patterns"], W: CircuitWeights
    ) -> Float[Array, "neurons patterns"]:
        """The velocity of the activities, in units of one over the neurons' time constant."""
        return self.network.neural_velocity(y, self.matrix(W))

    def plasticity(self, y: Float[Array, "neurons patterns"], W: CircuitWeights) -> CircuitWeights:
        """The velocity of the weights while the activities are y."""
        return self.blocks(self.network.plasticity(y, self.matrix(W)), W)

    def neural_growth_rate(self, W: CircuitWeights) -> Float[Array, ""]:
        """The largest real part of the neurons' eigenvalues: negative where they do reach their steady state."""
        return self.network.neural_growth_rate(self.matrix(W))

    def objective(self, W: CircuitWeights) -> Float[Array, ""]:
        r"""The function that the feedforward weights descend while those between excitatory and inhibitory neurons climb it.

        .. math::  -\tfrac12 \operatorname{tr}\bigl((I + M)^{-1} \Sigma_{rec}\bigr)
                   + \tfrac{\gamma}{2} \lVert W_{FE} \rVert^2 - \tfrac{\gamma}{2} \lVert W_{EI} \rVert^2

        for the exact steady state; at order 3 the first term is :math:`\tfrac12 \operatorname{tr}((M - I) \Sigma_{rec})`.
        Where the weights to and from the inhibitory neurons are each other's transposes, and counted once,
        Ẇ_FE = −∂/∂W_FE and Ẇ_EI = +∂/∂W_EI of it: descent and ascent, curl descent with one sign for each layer.

        Raises
        ------
        ValueError
            If the expansion's order is neither 3 nor None.

        References
        ----------
        arXiv:2510.02765, Eq. 45, which has both layers descend: the sign of its second layer is the opposite of Eq. 44's.
        """
        self.check_state(W)
        F, E, _ = self.sizes
        Sigma_rec = W.feedforward @ self.network.input_covariance()[:F, :F] @ W.feedforward.T
        M, identity = W.disynaptic_inhibition, jnp.eye(E)
        if self.network.order is None:
            first = -jnp.trace(jnp.linalg.solve(identity + M, Sigma_rec)) / 2
        elif self.network.order == 3:
            first = jnp.trace((M - identity) @ Sigma_rec) / 2
        else:
            raise ValueError(
                f"`order` must be 3 or None for the circuit to have an objective, but is {self.network.order}."
            )
        decay = jnp.sum(W.feedforward**2) - jnp.sum(W.to_inhibitory**2)
        return first + self.network.decay / 2 * decay

    def check_state(self, W: CircuitWeights) -> None:
        """Raise ValueError if W does not have the shapes this circuit moves: (E, F), (I, E), (E, I)."""
        if not isinstance(W, CircuitWeights):
            raise ValueError(
                f"The state of a SimilarityMatching circuit must be CircuitWeights, but is {type(W).__name__}."
            )
        F, E, I = self.sizes  # noqa: E741
        _checks.require_shape("feedforward", W.feedforward, (E, F), "(E, F)")
        _checks.require_shape("to_inhibitory", W.to_inhibitory, (I, E), "(I, E)")
        _checks.require_shape("from_inhibitory", W.inhibition, (E, I), "(E, I)")

"""Networks that learn from data: linear, tanh, erf and ReLU students of any width and depth."""

from collections.abc import Sequence
from typing import Literal, final

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, Float, PyTree
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.models.activations import ACTIVATIONS, Activation
from curlflow.models.curl import CurlFlow
from curlflow.models.layers import (
    Layer,
    has_biases,
    layers_of,
    network_output,
    require_chain,
    summed_inputs,
    synapses,
)
from curlflow.models.signed import broadcasts_to
from curlflow.system import Args, Time

Objective = Literal["squared error", "matching"]

Precision = Literal["float64", "float32"]


@final
class StudentFlow(eqx.Module):
    r"""Learning of a feedforward network on a data set, with the rule of chosen neurons or synapses flipped.

    The student answers an input x with ŷ = φ_out(z_L), h_l = φ(z_l), z_l = W_l h_{l−1} + b_l, h_0 = x. Its weights, and its
    biases where it has them, obey

    .. math::

        \dot W_l = \mathrm{signs}_l \odot \langle \delta_l h_{l-1}^\top \rangle, \qquad
        \dot b_l = \mathrm{signs}_l \odot \langle \delta_l \rangle, \qquad
        \delta_l = (W_{l+1}^\top \delta_{l+1}) \odot \varphi'(z_l), \qquad
        \delta_L = e \odot \varphi_\text{out}'(z_L), \quad e = y - \hat y,

    with ⟨·⟩ the mean over the samples. With all signs +1 this is gradient flow on ½⟨‖e‖²⟩. Three parts can be changed:

    - `activate_output`: φ_out = φ, as in the paper's simulations, instead of the identity.
    - `objective="matching"`: δ_L = e, without the derivative φ′ at the output. This is the rule of the paper's simulations.
      It too is a gradient, of the matching loss ⟨Φ(z_L) − y z_L⟩ with Φ′ = φ.
    - `feedback`: direct feedback alignment. δ_l = (B_l δ_L) ⊙ φ′ in every hidden layer l, with fixed matrices B_l.

    **Kinks.** For "relu", φ′(0) = 0, and the velocity jumps where a hidden unit's preactivation on some sample crosses
    zero, at weights of measure zero. Where orbits cross such a surface, their corners are exact, and the solver finds them by
    rejecting steps. Where both sides point at it, orbits slide along it in the sense of Filippov: an explicit solver goes to
    and fro across it in steps as short as the tolerance, and ends at its step limit. Small data sets do this soon. Then
    loosen the tolerances, or iterate `MinibatchDescent`, whose noise makes kinks harmless. A unit that is silent on every
    sample stands still.

    Parameters
    ----------
    X
        Inputs, shape (samples, M).
    targets
        What the network shall answer to them, shape (samples, P), or (samples,) for P = 1.
    signs
        Signs of the rule, a pytree like the weights, its leaves the layers from the first to the last: `Weights(d1, d2)` for
        two layers, a tuple for any number. A leaf has the shape (fan-in,), one sign ±1 for all synapses leaving a neuron, as
        in the paper; (fan-out, 1), for all entering one; or that of the layer's weights, for every synapse its own. A layer
        with biases is a `Layer(W, b)`, in the signs as in the weights; the signs of its biases have the shape (fan-out,).
    activation
        φ: "linear", "tanh", "erf" or "relu".
    activate_output
        Whether the output has the activation too.
    objective
        "squared error" or "matching", what gradient flow would descend.
    feedback
        Fixed feedback to every hidden layer in place of the transposed weights: one array of shape (N_l, P) for each, or the
        array itself if there is one hidden layer. None means backpropagation.
    precision
        "float64", or "float32" for sums over samples in single precision, up to twice as fast. The weights and their
        integration stay float64; velocities are then exact to about 1e-6 only: ask for tolerances no smaller.

    Raises
    ------
    ValueError
        If the shapes of data, signs and feedback do not fit together, the activation is not known, signs are not ±1, or, for
        the matching loss, targets lie beyond the range of φ, where no weights minimise it. When a computation starts, if the
        weights do not fit.

    References
    ----------
    arXiv:2510.02765, Section 5 and Figs. 5–11. Direct feedback alignment: A. Nøkland, NeurIPS 2016, arXiv:1609.01596.

    Examples
    --------
    A tanh student of ten hidden units, its first readout synapse flipped, learns from a teacher of the same architecture:

    >>> import curlflow as cf, jax
    >>> keys = jax.random.split(jax.random.key(0), 3)
    >>> teacher = cf.models.Teacher(
    ...     cf.ensembles.uniform_weights(keys[0], N=10, M=5), activation="tanh", activate_output=True
    ... )
    >>> flow = cf.models.StudentFlow(
    ...     *teacher.draw(keys[1], 100),
    ...     cf.Weights([1.0] * 5, [-1.0] + [1.0] * 9),
    ...     activation="tanh",
    ...     activate_output=True,
    ... )
    >>> W = cf.ensembles.uniform_weights(keys[2], N=10, M=5)
    >>> run = cf.integrate(cf.NormConstrained(flow), W, 10.0)
    >>> bool(flow.loss(run.final_state) < flow.loss(W))
    True

    Two outputs, and biases in both layers, which start at zero; the biases of the output climb the gradient:

    >>> from curlflow.models import Layer
    >>> X, y = [[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    >>> signs = (Layer([1, 1], b=[1, 1, 1]), Layer([1, 1, 1], b=[-1, -1]))
    >>> flow = cf.models.StudentFlow(X, y, signs, activation="tanh")
    >>> W = (Layer([[0, 1], [1, 0], [1, 1]], b=[0, 0, 0]), Layer([[1, 1, 0], [0, 0, 1]], b=[0, 0]))
    >>> run = cf.integrate(flow, W, 1.0)
    >>> run.final_state[1].b.shape
    (2,)
    """

    X: Float[Array, "samples inputs"]
    targets: Float[Array, "samples outputs"]
    signs: PyTree[Array]
    feedback: tuple[Float[Array, "_ outputs"], ...] | None
    activation: Activation = eqx.field(static=True)
    activate_output: bool = eqx.field(static=True)
    objective: Objective = eqx.field(static=True)
    precision: Precision = eqx.field(static=True)

    def __init__(
        self,
        X: ArrayLike,
        targets: ArrayLike,
        signs: PyTree[ArrayLike],
        *,
        activation: Activation,
        activate_output: bool = False,
        objective: Objective = "squared error",
        feedback: ArrayLike | Sequence[ArrayLike] | None = None,
        precision: Precision = "float64",
    ):
        _checks.require_one_of("activation", activation, tuple(ACTIVATIONS))
        _checks.require_one_of("objective", objective, ("squared error", "matching"))
        _checks.require_one_of("precision", precision, ("float64", "float32"))
        self.activation, self.activate_output = activation, bool(activate_output)
        self.objective, self.precision = objective, precision
        X, targets = _data(X, targets)
        if objective == "matching" and activate_output:
            _require_in_range(targets, activation)
        self.X, self.targets = X.astype(precision), targets.astype(precision)
        self.signs = _checks.state_pytree("signs", signs)
        for path, leaf in jtu.tree_leaves_with_path(self.signs):
            _checks.require_signs("signs" + jtu.keystr(path), leaf)
        hidden_layers = len(layers_of(self.signs)) - 1
        self.feedback = None if feedback is None else _feedback(feedback, hidden_layers, targets.shape[1])

    def __call__(self, t: Time, W: PyTree[Array], args: Args = None) -> PyTree[Array]:
        """The velocity at the weights W; the flow is autonomous, so `t` and `args` are ignored."""
        self.check_state(W)
        return self.velocity_on(W, self.X, self.targets)

    def velocity_on(
        self, W: PyTree[Array], X: Float[Array, "batch inputs"], targets: Float[Array, "batch outputs"]
    ) -> PyTree[Array]:
        """The velocity at the weights W if the data were these: on a batch, the step of minibatch descent per time."""
        layers = layers_of(jtu.tree_map(lambda leaf: leaf.astype(self.precision), W))
        X, targets = X.astype(self.precision), targets.astype(self.precision)
        two_linear = self.activation == "linear" and len(layers) == 2 and not any(map(has_biases, layers))
        changes = (self._linear_changes if two_linear else self._changes)(layers, X, targets)
        rates = [
            sign * change.astype(jnp.float64)
            for sign, change in zip(jtu.tree_leaves(self.signs), jtu.tree_leaves(changes), strict=True)
        ]
        return jtu.tree_unflatten(jtu.tree_structure(W), rates)

    def output(self, W: PyTree[Array], X: Float[Array, "batch inputs"]) -> Float[Array, "batch outputs"]:
        """What the network with weights W answers to the inputs X, in float64."""
        return network_output(layers_of(W), X, self.activation, self.activate_output)

    def loss(self, W: PyTree[Array]) -> Float[Array, ""]:
        """What gradient flow descends: ½⟨‖e‖²⟩, or the matching loss, above its least value over all answers."""
        if self.objective == "squared error" or not self.activate_output:
            return self.error(W)
        phi = ACTIVATIONS[self.activation]
        z = network_output(layers_of(W), self._data64[0], self.activation, activate_output=False)
        y = self._data64[1]
        return (phi.potential(z) - y * z - phi.least(y)).sum() / len(y)

    def error(self, W: PyTree[Array]) -> Float[Array, ""]:
        """The training error ½⟨‖e‖²⟩, whatever the objective."""
        X, targets = self._data64
        return ((targets - self.output(W, X)) ** 2).sum() / (2 * len(X))

    def gradient_flow(self) -> "StudentFlow":
        """Gradient flow on the same objective: every sign +1, and backpropagation."""
        signs = jtu.tree_map(jnp.ones_like, self.signs)
        return eqx.tree_at(
            lambda flow: (flow.signs, flow.feedback), self, (signs, None), is_leaf=lambda leaf: leaf is None
        )

    def curl_flow(self) -> CurlFlow:
        """The flow of a two-layer linear network in closed form, with C = XᵀX/samples and the least-squares map S.

        Its loss is this one's without the part that no linear map can learn.
        """
        layers = layers_of(self.signs)
        biases = any(map(has_biases, layers))
        rows = [synapses(layer) for layer in layers]
        per_neuron = all(row.ndim == 1 for row in rows)
        if (
            self.activation != "linear"
            or len(rows) != 2
            or self.feedback is not None
            or biases
            or not per_neuron
        ):
            raise ValueError(
                "`curl_flow` must be asked of a two-layer linear network with one sign per neuron and no feedback or biases, "
                f"but this one has activation {self.activation!r} and signs of shapes {[row.shape for row in rows]}"
                f"{', feedback' if self.feedback is not None else ''}{', biases' if biases else ''}."
            )
        X, targets = self._data64
        C = X.T @ X / len(X)
        return CurlFlow(jnp.linalg.lstsq(X, targets)[0].T, rows[0], rows[1], (C + C.T) / 2)

    def check_state(self, W: PyTree[Array]) -> None:
        """Raise ValueError if the weights W do not fit each other, the data, the signs or the feedback."""
        layers, signs = layers_of(W), layers_of(self.signs)
        _require_same_biases(layers, signs)
        if jtu.tree_structure(W) != jtu.tree_structure(self.signs):
            raise ValueError(
                "The weights must be a pytree like the signs, "
                f"but are {jtu.tree_structure(W)} for signs {jtu.tree_structure(self.signs)}."
            )
        require_chain(layers, self.X.shape[1], self.targets.shape[1])
        for number, (layer, sign) in enumerate(zip(layers, signs, strict=True), 1):
            for leaf, its_sign, name in zip(
                *map(jtu.tree_leaves, (layer, sign)), ("weights", "biases"), strict=False
            ):
                if not broadcasts_to(its_sign.shape, leaf.shape):
                    raise ValueError(
                        f"The signs of layer {number} must broadcast to its {name}' shape {leaf.shape}, "
                        f"but have shape {its_sign.shape}."
                    )
        for number, (layer, B) in enumerate(zip(layers, self.feedback or (), strict=False), 1):
            units = len(synapses(layer))
            if len(B) != units:
                raise ValueError(
                    f"The feedback to layer {number} must have a row for each of its {units} units, but has {len(B)}."
                )

    @property
    def _data64(self) -> tuple[Array, Array]:
        return self.X.astype(jnp.float64), self.targets.astype(jnp.float64)

    def _changes(self, layers: list[Array | Layer], X: Array, targets: Array) -> list[Array | Layer]:
        """⟨δ_l h_{l−1}ᵀ⟩, and ⟨δ_l⟩ for biases, for every layer. Samples stand along the last axis, which is the long one."""
        phi = ACTIVATIONS[self.activation]
        h, slopes = [X.T], []
        for layer in layers[:-1]:
            z = summed_inputs(layer, h[-1])
            h.append(phi.value(z))
            slopes.append(phi.slope(z, h[-1]))
        delta = top = self._output_delta(summed_inputs(layers[-1], h[-1]), targets.T)
        changes = [_change(layers[-1], delta, h[-1])]
        for below in range(len(layers) - 2, -1, -1):
            back = (
                synapses(layers[below + 1]).T @ delta if self.feedback is None else self._fixed(below) @ top
            )
            delta = back * slopes[below]
            changes.insert(0, _change(layers[below], delta, h[below]))
        return changes

    def _output_delta(
        self, z: Float[Array, "outputs batch"], y: Float[Array, "outputs batch"]
    ) -> Float[Array, "outputs batch"]:
        """δ_L over the number of samples."""
        phi = ACTIVATIONS[self.activation if self.activate_output else "linear"]
        answer = phi.value(z)
        e = (y - answer) / z.shape[1]
        return e if self.objective == "matching" else e * phi.slope(z, answer)

    def _linear_changes(self, layers: list[Array | Layer], X: Array, targets: Array) -> list[Array | Layer]:
        """The same for two linear layers without biases. Samples enter by ⟨e xᵀ⟩ alone: far less work for small batches."""
        W1, W2 = map(synapses, layers)
        residual = targets - (X @ W1.T) @ W2.T
        G = residual.T @ X / len(X)
        return [(W2.T if self.feedback is None else self._fixed(0)) @ G, G @ W1.T]

    def _fixed(self, below: int) -> Array:
        assert self.feedback is not None
        return self.feedback[below].astype(self.precision)


def _change(layer: Array | Layer, delta: Array, h: Array) -> Array | Layer:
    change = delta @ h.T
    return Layer(change, delta.sum(1)) if isinstance(layer, Layer) else change


def _require_same_biases(layers: list[Array | Layer], signs: list[Array | Layer]) -> None:
    """Refuse biases without signs and signs without biases, in better words than those of two pytrees."""
    for number, (layer, sign) in enumerate(zip(layers, signs, strict=False), 1):
        if has_biases(layer) != has_biases(sign):
            raise ValueError(
                f"Layer {number} must have biases just if its signs have, but "
                f"{'it has' if has_biases(layer) else 'its signs have'} some and "
                f"{'its signs have' if has_biases(layer) else 'it has'} none: write Layer(W, b) in both."
            )


def _data(X: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
    X, targets = _checks.float64_array("X", X), _checks.float64_array("targets", targets)
    if X.ndim != 2 or not len(X):
        raise ValueError(f"`X` must have shape (samples, M), but has shape {X.shape}.")
    shaped = targets[:, None] if targets.ndim == 1 else targets
    if shaped.ndim != 2 or len(shaped) != len(X):
        raise ValueError(
            f"`targets` must have shape (samples, P) = ({len(X)}, P), but has shape {targets.shape}."
        )
    return X, shaped


def _require_in_range(targets: Array, activation: str) -> None:
    if _checks.is_traced(targets):
        return
    low, high = ACTIVATIONS[activation].range
    smallest, largest = float(targets.min()), float(targets.max())
    if smallest < low or largest > high:
        raise ValueError(
            f"`targets` must lie in the range of {activation!r}, from {low:g} to {high:g}, for the matching loss, "
            f"but span {smallest:g} to {largest:g}."
        )


def _feedback(
    feedback: ArrayLike | Sequence[ArrayLike], hidden_layers: int, outputs: int
) -> tuple[Array, ...]:
    given = feedback if isinstance(feedback, (tuple, list)) and np.ndim(feedback[0]) == 2 else [feedback]
    matrices = tuple(_checks.float64_array("feedback", B) for B in given)  # pyright: ignore[reportArgumentType]
    if len(matrices) != hidden_layers:
        raise ValueError(
            f"`feedback` must have one matrix for each of the {hidden_layers} hidden layers, but has {len(matrices)}."
        )
    for B in matrices:
        if B.ndim != 2 or B.shape[1] != outputs:
            raise ValueError(f"`feedback` must have shape (N, P) = (N, {outputs}), but has shape {B.shape}.")
    return matrices

"""A network that makes data."""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.models.activations import ACTIVATIONS, Activation
from curlflow.models.layers import layers_of, network_output, require_chain, synapses


@final
class Teacher(eqx.Module):
    """A network that makes data: Gaussian inputs, and its own answers to them, free of noise.

    Parameters
    ----------
    weights
        The layers, from the first to the last, as `Weights` or a tuple, a `Layer` in it where there are biases. The
        architecture may differ from the student's.
    activation
        "linear", "tanh", "erf" or "relu".
    activate_output
        Whether the output has the activation too.
    standard_deviation
        Standard deviation of every input, positive. The paper's simulations have 1/√2.

    Raises
    ------
    ValueError
        If the activation is not known, the layers do not fit each other, or the standard deviation is not positive.

    Examples
    --------
    >>> import curlflow as cf, jax
    >>> teacher = cf.models.Teacher(
    ...     cf.ensembles.gaussian_weights(jax.random.key(0), N=4, M=3), activation="relu"
    ... )
    >>> X, targets = teacher.draw(jax.random.key(1), 250)
    >>> X.shape, targets.shape
    ((250, 3), (250, 1))
    """

    weights: PyTree[Array]
    standard_deviation: Float[Array, ""]
    activation: Activation = eqx.field(static=True)
    activate_output: bool = eqx.field(static=True)

    def __init__(
        self,
        weights: PyTree[ArrayLike],
        *,
        activation: Activation,
        activate_output: bool = False,
        standard_deviation: float = 0.5**0.5,
    ):
        _checks.require_one_of("activation", activation, tuple(ACTIVATIONS))
        self.weights = _checks.state_pytree("weights", weights)
        require_chain(layers_of(self.weights))
        scale = _checks.float64_array("standard_deviation", standard_deviation)
        _checks.require_shape("standard_deviation", scale, (), "()")
        if not _checks.is_traced(scale):
            _checks.positive_number("standard_deviation", float(scale))
        self.standard_deviation = scale
        self.activation = activation
        self.activate_output = _checks.truth_value("activate_output", activate_output)

    def output(self, X: Float[Array, "samples inputs"]) -> Float[Array, "samples outputs"]:
        """The answers to the inputs X."""
        return network_output(layers_of(self.weights), X, self.activation, self.activate_output)

    def draw(
        self, key: PRNGKeyArray, samples: int
    ) -> tuple[Float[Array, "samples inputs"], Float[Array, "samples outputs"]]:
        """Fresh inputs, shape (samples, M), and the answers to them, shape (samples, P)."""
        _checks.require_float64()
        samples = _checks.positive_integer("samples", samples)
        M = synapses(layers_of(self.weights)[0]).shape[1]
        _checks.require_room("samples", samples * M)
        X = self.standard_deviation * jax.random.normal(
            _checks.random_key("key", key), (samples, M), jnp.float64
        )
        return X, self.output(X)

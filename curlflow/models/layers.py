"""The layers of a feedforward network, with biases or without, and what the network answers."""

from functools import partial
from typing import Any, final

import equinox as eqx
import jax.tree_util as jtu
from jaxtyping import Array, PyTree

from curlflow import _checks
from curlflow.models.activations import ACTIVATIONS


def _numbers(name: str, value: Any) -> Any:
    """The value as an array; True and False, which mark the leaf that stands here, as they are."""
    return value if isinstance(value, bool) else _checks.as_array(name, value)


@final
class Layer(eqx.Module):
    r"""A layer with biases, which takes h to φ(W h + b); a layer without is the bare array W.

    Where weights are given, a layer with biases stands in the place of an array: `(Layer(W1, b1), Layer(W2, b2))` is a
    network of two layers, and `(Layer(W1, b1), W2)` one whose output has none. Whatever belongs to the weights has the same
    form: their signs, their velocity, and which of them a norm constraint leaves free.

    Parameters
    ----------
    W
        Weights, shape (fan-out, fan-in).
    b
        Biases, shape (fan-out,).

    Raises
    ------
    ValueError
        If one of them cannot be made an array.

    Examples
    --------
    >>> import curlflow as cf
    >>> layer = cf.models.Layer(W=[[1.0, 2.0]], b=[0.5])
    >>> layer.b
    Array([0.5], dtype=float64)
    """

    W: Array = eqx.field(converter=partial(_numbers, "W"))
    b: Array = eqx.field(converter=partial(_numbers, "b"))


def has_biases(layer: Any) -> bool:
    """Whether the layer is more than its weights."""
    return isinstance(layer, Layer)


def layers_of(weights: PyTree[Array]) -> list[Array | Layer]:
    """The layers, from the first to the last."""
    return jtu.tree_leaves(weights, is_leaf=has_biases)


def synapses(layer: Array | Layer) -> Array:
    """The weights of the layer, without its biases."""
    return layer.W if isinstance(layer, Layer) else layer


def summed_inputs(layer: Array | Layer, h: Array) -> Array:
    """W h + b, with samples along the last axis."""
    return layer.W @ h + layer.b[:, None] if isinstance(layer, Layer) else layer @ h


def network_output(layers: list[Array | Layer], X: Array, activation: str, activate_output: bool) -> Array:
    """What a network with these layers answers to the inputs X, one row each."""
    phi, h = ACTIVATIONS[activation].value, X.T
    for layer in layers[:-1]:
        h = phi(summed_inputs(layer, h))
    z = summed_inputs(layers[-1], h)
    return (phi(z) if activate_output else z).T


def require_chain(layers: list[Array | Layer], inputs: int | None = None, outputs: int | None = None) -> None:
    """Refuse layers that do not fit each other, the inputs or the outputs."""
    expected = inputs
    for number, layer in enumerate(layers, 1):
        W = synapses(layer)
        if W.ndim != 2 or (expected is not None and W.shape[1] != expected):
            columns = "fan-in" if expected is None else expected
            raise ValueError(
                f"The weights of layer {number} must have shape (units, {columns}), but have shape {W.shape}."
            )
        expected = W.shape[0]
        if isinstance(layer, Layer) and layer.b.shape != (expected,):
            raise ValueError(
                f"The biases of layer {number} must have shape ({expected},), one for each of its units, "
                f"but have shape {layer.b.shape}."
            )
    if outputs is not None and expected != outputs:
        raise ValueError(
            f"The weights of the last layer must have a row for each of the {outputs} outputs, but have {expected}."
        )

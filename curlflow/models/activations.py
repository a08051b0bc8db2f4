"""Activations: their values, slopes and integrals."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import jax.scipy.special as special
import numpy as np
from jaxtyping import Array

Activation = Literal["linear", "tanh", "erf", "relu"]


class ActivationFunction(NamedTuple):
    """An activation φ; its slope, from the argument and the value; its integral Φ; min over z of Φ(z) − y z; its range."""

    value: Callable[[Array], Array]
    slope: Callable[[Array, Array], Array]
    potential: Callable[[Array], Array]
    least: Callable[[Array], Array]
    range: tuple[float, float]


def _entropy_of_tanh(y: Array) -> Array:
    return -(special.xlogy(1 + y, 1 + y) + special.xlogy(1 - y, 1 - y)) / 2


ACTIVATIONS: dict[str, ActivationFunction] = {
    "linear": ActivationFunction(
        lambda z: z,
        lambda z, h: jnp.ones_like(z),
        lambda z: z**2 / 2,
        lambda y: -(y**2) / 2,
        (-np.inf, np.inf),
    ),
    "tanh": ActivationFunction(
        jnp.tanh,
        lambda z, h: 1 - h**2,
        lambda z: jnp.logaddexp(z, -z) - np.log(2),
        _entropy_of_tanh,
        (-1.0, 1.0),
    ),
    "erf": ActivationFunction(
        special.erf,
        lambda z, h: 2 / np.pi**0.5 * jnp.exp(-(z**2)),
        lambda z: z * special.erf(z) + (jnp.exp(-(z**2)) - 1) / np.pi**0.5,
        lambda y: (jnp.exp(-(special.erfinv(y) ** 2)) - 1) / np.pi**0.5,
        (-1.0, 1.0),
    ),
    "relu": ActivationFunction(
        jax.nn.relu,
        lambda z, h: (z > 0).astype(z.dtype),
        lambda z: jax.nn.relu(z) ** 2 / 2,
        lambda y: -(y**2) / 2,
        (0.0, np.inf),
    ),
}

"""Signed gradient flow: −signs ⊙ ∇loss, for any differentiable loss over any pytree of parameters."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.system import Args, Time


@final
class SignedGradientFlow(eqx.Module):
    r"""Gradient flow on a loss, with the rule of chosen parameters flipped.

    .. math::  \dot y = -\mathrm{signs} \odot \nabla \mathrm{loss}(y)

    `signs` may be a row of ±1 (all synapses leaving one unit share a sign), a column (all synapses entering one unit), or a
    full mask (a sign of its own for every synapse). With `signs=Weights(d1, d2)` and the quadratic loss of a two-layer
    linear network it is `CurlFlow`.

    Parameters
    ----------
    loss
        A differentiable function from the parameters, any pytree of float64 arrays, to a real number. To carry data, let it
        be an `equinox.Module` with a `__call__`.
    signs
        A pytree like the parameters; each leaf holds ±1 and broadcasts to the parameter it belongs to.

    Raises
    ------
    ValueError
        If `loss` cannot be called, a sign is not ±1, or, when the flow is evaluated, the signs do not broadcast to the
        parameters.

    References
    ----------
    arXiv:2510.02765, Eq. 5, in continuous time and for any network. Synapse-specific flips go beyond the paper.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> flow = cf.SignedGradientFlow(lambda y: 0.5 * jnp.sum(y**2), signs=jnp.array([1.0, -1.0]))
    >>> flow(0.0, jnp.array([3.0, 4.0]), None)
    Array([-3.,  4.], dtype=float64)
    """

    loss: Callable[[PyTree[Array]], Float[Array, ""]]
    signs: PyTree[Array]

    def __init__(self, loss: Callable[[PyTree[Array]], Float[Array, ""]], signs: PyTree[ArrayLike]):
        if not callable(loss):
            raise ValueError(f"`loss` must be a function of the parameters, but is {loss!r}.")
        self.loss = loss
        self.signs = _checks.state_pytree("signs", signs)
        for path, leaf in jtu.tree_leaves_with_path(self.signs):
            _checks.require_signs("signs" + jtu.keystr(path), leaf)

    def __call__(self, t: Time, y: PyTree[Array], args: Args = None) -> PyTree[Array]:
        """The velocity −signs ⊙ ∇loss(y); the flow is autonomous, so `t` and `args` are ignored."""
        self.check_state(y)
        return jtu.tree_map(lambda sign, slope: -sign * slope, self.signs, jax.grad(self.loss)(y))

    def gradient_flow(self) -> "SignedGradientFlow":
        """The same flow with every sign +1: gradient flow on the same loss."""
        return SignedGradientFlow(self.loss, jtu.tree_map(jnp.ones_like, self.signs))

    def check_state(self, y: PyTree[Array]) -> None:
        """Raise ValueError if the signs do not broadcast to the parameters `y`."""
        if jtu.tree_structure(self.signs) != jtu.tree_structure(y):
            raise ValueError(
                "`signs` must be a pytree like the parameters, "
                f"but is {jtu.tree_structure(self.signs)} for parameters {jtu.tree_structure(y)}."
            )
        leaves = zip(jtu.tree_leaves_with_path(y), jtu.tree_leaves(self.signs), strict=True)
        for (path, parameter), sign in leaves:
            if not broadcasts_to(sign.shape, parameter.shape):
                raise ValueError(
                    f"`signs{jtu.keystr(path)}` must broadcast to its parameter's shape {parameter.shape}, "
                    f"but has shape {sign.shape}."
                )


def broadcasts_to(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether an array of the first shape broadcasts to the second, and not beyond it."""
    try:
        return jnp.broadcast_shapes(shape, target) == target
    except ValueError:
        return False

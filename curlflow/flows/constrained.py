"""Norm-constrained flow: every layer keeps its Frobenius norm."""

from collections.abc import Callable
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree

from curlflow import _checks


@final
class NormConstrained(eqx.Module):
    r"""A flow with the Frobenius norm of every layer held fixed.

    .. math::  \dot W_l = F_l - W_l \frac{\langle F_l, W_l \rangle}{\langle W_l, W_l \rangle}

    for every leaf W_l of the state, with F the wrapped flow. The paper rescales each layer to its initial norm after every
    update; this is that rule in continuous time.

    Parameters
    ----------
    flow
        Any vector field f(t, y, args) over a pytree of layers.

    Raises
    ------
    ValueError
        If `flow` cannot be called; or, when a computation starts, if a layer is zero (its direction is undefined).

    References
    ----------
    arXiv:2510.02765, Section 5, "Simulations".

    Examples
    --------
    >>> import curlflow as cf
    >>> flow = cf.NormConstrained(cf.CurlFlow(S=[1.0, 2.0], d1=[1, -1], d2=[1, 1]))
    >>> W = cf.Weights(W1=[[1.0, 0.0], [0.0, 1.0]], W2=[[1.0, 0.5]])
    >>> velocity = flow(0.0, W, None)
    >>> float((W.W1 * velocity.W1).sum())  # no motion along the layer itself
    0.0
    """

    flow: Callable[..., PyTree[Array]]

    def __init__(self, flow: Callable[..., PyTree[Array]]):
        _checks.require_flow(flow)
        self.flow = flow

    def __call__(self, t: Any, y: PyTree[Array], args: Any = None) -> PyTree[Array]:
        """The wrapped flow's velocity, with each layer's motion along itself taken out."""
        return jtu.tree_map(_tangent_to_sphere, self.flow(t, y, args), y)

    def tangent(self, t: Any, y: PyTree[Array], V: PyTree[Array], args: Any = None) -> PyTree[Array]:
        """The Jacobian at y times k tangent vectors at once, which stand along an axis before the last one of every leaf."""
        return jtu.tree_map(_rate_on_sphere, *self._velocity_and_rate(t, y, V, args), y, V)

    @property
    def loss(self) -> Callable[[PyTree[Array]], Float[Array, ""]]:
        """The wrapped flow's loss; absent where the wrapped flow has none."""
        return self.flow.loss  # pyright: ignore[reportFunctionMemberAccess]

    def conserved(self, y: PyTree[Array]) -> Float[Array, " layers"]:
        """The squared norm of every layer, in the pytree's order. The free flow's own invariants are not kept."""
        return jnp.stack([jnp.vdot(layer, layer) for layer in jtu.tree_leaves(y)])

    def gradient_flow(self) -> "NormConstrained":
        """The norm-constrained flow of the wrapped flow's gradient flow."""
        return NormConstrained(self.flow.gradient_flow())  # pyright: ignore[reportFunctionMemberAccess]

    def check_state(self, y: PyTree[Array]) -> None:
        """Raise ValueError if the wrapped flow refuses `y`, or if a layer of `y` is zero."""
        if hasattr(self.flow, "check_state"):
            self.flow.check_state(y)  # pyright: ignore[reportFunctionMemberAccess]
        for path, layer in jtu.tree_leaves_with_path(y):
            if not _checks.is_traced(layer) and not jnp.any(layer):
                raise ValueError(
                    f"Every layer of a norm-constrained flow must have a nonzero norm, but y{jtu.keystr(path)} is zero."
                )

    def _velocity_and_rate(self, t: Any, y: PyTree[Array], V: PyTree[Array], args: Any) -> tuple[Any, Any]:
        """The wrapped flow's velocity, and its Jacobian times the tangent vectors."""
        if hasattr(self.flow, "tangent"):
            return self.flow(t, y, args), self.flow.tangent(t, y, V, args)  # pyright: ignore[reportFunctionMemberAccess]
        velocity, derivative = jax.linearize(lambda y: self.flow(t, y, args), y)
        axes = jtu.tree_map(lambda layer: max(layer.ndim - 1, 0), y)
        return velocity, jax.vmap(derivative, in_axes=(axes,), out_axes=axes)(V)


def _tangent_to_sphere(velocity: Array, layer: Array) -> Array:
    return velocity - layer * (jnp.vdot(velocity, layer) / jnp.vdot(layer, layer))


def _rate_on_sphere(velocity: Array, rate: Array, layer: Array, V: Array) -> Array:
    """The derivative of `_tangent_to_sphere` along tangent vectors V of the layer; `rate` is the velocity's own."""
    axis = max(layer.ndim - 1, 0)
    others = [a for a in range(layer.ndim + 1) if a != axis]

    def inner(a: Array, b: Array) -> Float[Array, " k"]:
        """The inner product of a layer with every tangent vector."""
        return jnp.tensordot(a, b, axes=(list(range(layer.ndim)), others))

    def outer(factors: Float[Array, " k"], a: Array) -> Array:
        """The layer times each of k factors, as tangent vectors."""
        return jnp.expand_dims(a, axis) * (factors[:, None] if layer.ndim else factors)

    square = jnp.vdot(layer, layer)
    along = jnp.vdot(velocity, layer) / square
    change = (inner(layer, rate) + inner(velocity, V) - 2 * along * inner(layer, V)) / square
    return rate - along * V - outer(change, layer)

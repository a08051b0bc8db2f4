"""Norm-constrained flow: every layer keeps its Frobenius norm."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree

from curlflow import _checks
from curlflow.system import Args, Flow, State, Time, check_state, handed_on, known, pushed, require_flow


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

    flow: Flow

    def __init__(self, flow: Flow):
        require_flow(flow)
        self.flow = flow

    def __call__(self, t: Time, y: State, args: Args = None) -> State:
        """The wrapped flow's velocity, with each layer's motion along itself taken out."""
        return jtu.tree_map(_tangent_to_sphere, self.flow(t, y, args), y)

    def tangent(self, t: Time, y: State, V: State, args: Args = None) -> State:
        """The Jacobian at y times k tangent vectors at once, which stand along an axis before the last one of every leaf.

        With ν_l = ⟨F_l, W_l⟩ / ⟨W_l, W_l⟩ it is J_F V − ν_l V_l − (dν_l V) W_l, where the gradient dν_l of a number is one
        pull-back through the wrapped flow, whatever k.
        """
        tangent = known(self.flow, "tangent")
        if tangent is None:
            return pushed(lambda y: self(t, y, args), y, V)[1]
        rate = tangent(t, y, V, args)
        nu, pull_back = jax.vjp(lambda y: self._growth_rates(t, y, args), y)
        changes = [_inner_product(pull_back(unit)[0], V) for unit in jnp.eye(len(nu))]
        layers, structure = jtu.tree_flatten(y)
        terms = zip(jtu.tree_leaves(rate), nu, jtu.tree_leaves(V), changes, layers, strict=True)
        return jtu.tree_unflatten(
            structure, [r - n * v - _along_layer(change, layer) for r, n, v, change, layer in terms]
        )

    def _growth_rates(self, t: Time, y: State, args: Args) -> Float[Array, " layers"]:
        """The rate ν_l at which the wrapped flow alone would stretch every layer."""
        pairs = zip(jtu.tree_leaves(self.flow(t, y, args)), jtu.tree_leaves(y), strict=True)
        return jnp.stack([jnp.vdot(velocity, layer) / jnp.vdot(layer, layer) for velocity, layer in pairs])

    @property
    def loss(self) -> Callable[[State], Float[Array, ""]]:
        """The wrapped flow's loss; absent where the wrapped flow has none."""
        return handed_on(self.flow, "loss")

    @property
    def symmetries(self) -> Callable[[State], State]:
        """The wrapped flow's symmetries, which are kept if they change no layer's norm; absent where it has none."""
        return handed_on(self.flow, "symmetries")

    def conserved(self, y: State) -> Float[Array, " layers"]:
        """The squared norm of every layer, in the pytree's order. The free flow's own invariants are not kept."""
        return jnp.stack([jnp.vdot(layer, layer) for layer in jtu.tree_leaves(y)])

    def gradient_flow(self) -> "NormConstrained":
        """The norm-constrained flow of the wrapped flow's gradient flow."""
        return NormConstrained(handed_on(self.flow, "gradient_flow")())

    def check_state(self, y: State) -> None:
        """Raise ValueError if the wrapped flow refuses `y`, or if a layer of `y` is zero."""
        check_state(self.flow, y)
        for path, layer in jtu.tree_leaves_with_path(y):
            if not _checks.is_traced(layer) and not jnp.any(layer):
                raise ValueError(
                    f"Every layer of a norm-constrained flow must have a nonzero norm, but y{jtu.keystr(path)} is zero."
                )


def _tangent_to_sphere(velocity: Array, layer: Array) -> Array:
    return velocity - layer * (jnp.vdot(velocity, layer) / jnp.vdot(layer, layer))


def _inner_product(gradient: PyTree[Array], V: State) -> Float[Array, " k"]:
    """The inner product of a gradient with every tangent vector."""
    products = jtu.tree_map(_inner_product_of_layers, gradient, V)
    return sum(jtu.tree_leaves(products), jnp.zeros(()))


def _inner_product_of_layers(gradient: Array, V: Array) -> Float[Array, " k"]:
    if V.ndim == 1:
        return gradient * V
    # As products over the last axis, which is contiguous in both: many times faster than one over all axes at once.
    products = jnp.einsum("...m,...km->...k", gradient, V)
    return products.sum(axis=tuple(range(products.ndim - 1)))


def _along_layer(factors: Float[Array, " k"], layer: Array) -> Array:
    """The layer times each of k factors, as tangent vectors."""
    axis = max(layer.ndim - 1, 0)
    return jnp.expand_dims(layer, axis) * (factors[:, None] if layer.ndim else factors)

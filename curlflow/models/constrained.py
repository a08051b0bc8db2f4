"""Norm-constrained flow: every layer keeps its Frobenius norm."""

from collections.abc import Callable
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float, PyTree

from curlflow.models.norms import FreeLeaves, free_leaves, require_nonzero_norms, split
from curlflow.system import Args, Flow, State, Time, check_state, handed_on, known, pushed, require_flow


@final
class NormConstrained(eqx.Module):
    r"""A flow with the Frobenius norm of every layer held fixed.

    .. math::  \dot W_l = F_l - W_l \frac{\langle F_l, W_l \rangle}{\langle W_l, W_l \rangle}

    for every leaf W_l of the state that is not left free, with F the wrapped flow; free leaves move as in F. The paper
    rescales each layer to its initial norm after every update; this is that rule in continuous time.

    Parameters
    ----------
    flow
        Any vector field f(t, y, args) over a pytree of layers.
    free
        Leaves whose norms are not held, such as biases, which may start at zero: a pytree like the state with True for those
        that are free and False for the others. None means that the norms of all are held.

    Raises
    ------
    ValueError
        If `flow` cannot be called or `free` holds anything but True and False, or no False; or, when a computation starts,
        if `free` is no pytree like the state, or a layer whose norm is held is zero (its direction is undefined).

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

    A network with biases, which are free. They have one axis, and weights have two:

    >>> import jax, jax.numpy as jnp
    >>> W = (cf.models.Layer([[0.5, -0.5]], b=[0.0]), cf.models.Layer([[2.0]], b=[0.0]))
    >>> flow = cf.models.StudentFlow(
    ...     jnp.eye(2), [1.0, 2.0], jax.tree.map(jnp.ones_like, W), activation="tanh"
    ... )
    >>> constrained = cf.NormConstrained(flow, free=jax.tree.map(lambda leaf: leaf.ndim == 1, W))
    >>> constrained(0.0, W)[1]  # the readout has one synapse, which its norm holds where it is
    Layer(W=f64[1,1], b=f64[1])
    """

    flow: Flow
    free: FreeLeaves | None = eqx.field(static=True)

    def __init__(self, flow: Flow, free: PyTree[bool] | None = None):
        require_flow(flow)
        self.flow = flow
        self.free = free_leaves(free)

    def __call__(self, t: Time, y: State, args: Args = None) -> State:
        """The wrapped flow's velocity, with each layer's motion along itself taken out."""
        layers, _ = split(y, self.free)
        velocity, free = split(self.flow(t, y, args), self.free)
        return eqx.combine(jtu.tree_map(_tangent_to_sphere, velocity, layers), free)

    def tangent(self, t: Time, y: State, V: State, args: Args = None) -> State:
        """The Jacobian at y times k tangent vectors at once, which stand along an axis before the last one of every leaf.

        With ν_l = ⟨F_l, W_l⟩ / ⟨W_l, W_l⟩ it is J_F V − ν_l V_l − (dν_l V) W_l, where the gradient dν_l of a number is one
        pull-back through the wrapped flow, whatever k. For a free leaf it is J_F V.
        """
        tangent = known(self.flow, "tangent")
        if tangent is None:
            return pushed(lambda y: self(t, y, args), y, V)[1]
        rate, free = split(tangent(t, y, V, args), self.free)
        nu, pull_back = jax.vjp(lambda y: self._growth_rates(t, y, args), y)
        changes = [_inner_product(pull_back(unit)[0], V) for unit in jnp.eye(len(nu))]
        layers, structure = jtu.tree_flatten(split(y, self.free)[0])
        vectors = jtu.tree_leaves(split(V, self.free)[0])
        terms = zip(jtu.tree_leaves(rate), nu, vectors, changes, layers, strict=True)
        held = [r - n * v - _along_layer(change, layer) for r, n, v, change, layer in terms]
        return eqx.combine(jtu.tree_unflatten(structure, held), free)

    def _growth_rates(self, t: Time, y: State, args: Args) -> Float[Array, " layers"]:
        """The rate ν_l at which the wrapped flow alone would stretch every layer whose norm is held."""
        held = [split(leaves, self.free)[0] for leaves in (self.flow(t, y, args), y)]
        pairs = zip(*map(jtu.tree_leaves, held), strict=True)
        return jnp.stack([jnp.vdot(velocity, layer) / jnp.vdot(layer, layer) for velocity, layer in pairs])

    @property
    def loss(self) -> Callable[[State], Float[Array, ""]]:
        """The wrapped flow's loss; absent where the wrapped flow has none."""
        return handed_on(self.flow, "loss")

    @property
    def symmetries(self) -> Callable[[State], State]:
        """The wrapped flow's symmetries, which are kept if they change no norm that is held; absent where it has none."""
        return handed_on(self.flow, "symmetries")

    def conserved(self, y: State) -> Float[Array, " layers"]:
        """The squared norm of every leaf that is not free, in the pytree's order. The wrapped flow's invariants are lost."""
        return jnp.stack([jnp.vdot(layer, layer) for layer in jtu.tree_leaves(split(y, self.free)[0])])

    def gradient_flow(self) -> "NormConstrained":
        """The norm-constrained flow of the wrapped flow's gradient flow."""
        return eqx.tree_at(
            lambda constrained: constrained.flow, self, handed_on(self.flow, "gradient_flow")()
        )

    def check_state(self, y: State) -> None:
        """Raise ValueError if the wrapped flow refuses `y`, or if a layer of `y` whose norm is held is zero."""
        check_state(self.flow, y)
        require_nonzero_norms(y, self.free, "Every layer of a norm-constrained flow must have a nonzero norm")


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

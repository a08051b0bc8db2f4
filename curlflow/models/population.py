"""Losses over infinitely many samples, for the activations where the mean over Gaussian inputs is known in closed form."""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Float

from curlflow.models.curl import Weights
from curlflow.models.layers import has_biases, layers_of
from curlflow.models.teacher import Teacher


@final
class PopulationLoss(eqx.Module):
    r"""The loss ½⟨\|ŷ − y\|²⟩ of a two-layer student, with the mean over all Gaussian inputs instead of a data set.

    Student and teacher have the same activation and a linear output; their widths are free. With the kernel
    K(u, v) = ⟨φ(u·x) φ(v·x)⟩ of two units, applied to all rows of two layers, and T1, T2 the teacher's weights,

    .. math::

        L = \tfrac12 \operatorname{tr}\left[ W_2 K(W_1, W_1) W_2^\top - 2\, W_2 K(W_1, T_1) T_2^\top
            + T_2 K(T_1, T_1) T_2^\top \right].

    In units of the inputs' standard deviation the kernel is u·v for "linear",
    (2/π) arcsin(2 u·v / √((1 + 2\|u\|²)(1 + 2\|v\|²))) for "erf", and for "relu", with θ the angle between u and v,
    \|u\|\|v\| (sin θ + (π − θ) cos θ) / 2π. For "tanh", and with an activation at the output, there is no closed form: let
    `MinibatchDescent` draw fresh samples from the teacher.

    The loss is a difference of terms of order 1, exact to about 1e-16. A ReLU loss has a gradient everywhere but where a
    unit's weights vanish (taken as 0 there), and a Jacobian everywhere but where two units point the same way.

    Parameters
    ----------
    teacher
        A two-layer `Teacher` without biases, with activation "linear", "erf" or "relu" and a linear output; the inputs are
        those it draws.

    Raises
    ------
    ValueError
        If the teacher has no closed form, or, when the loss is evaluated, the student's inputs or outputs are not its own.

    References
    ----------
    D. Saad, S. A. Solla, Phys. Rev. E 52, 4225 (1995); Y. Cho, L. K. Saul, "Kernel Methods for Deep Learning", NeurIPS 2009.

    Examples
    --------
    Curl descent on the population loss of a ReLU network, one readout synapse flipped:

    >>> import curlflow as cf, jax
    >>> teacher = cf.models.Teacher(
    ...     cf.ensembles.gaussian_weights(jax.random.key(0), N=3, M=5), activation="relu"
    ... )
    >>> flow = cf.SignedGradientFlow(
    ...     cf.models.PopulationLoss(teacher), cf.Weights([1.0] * 5, [-1.0, 1.0, 1.0, 1.0])
    ... )
    >>> W = cf.ensembles.gaussian_weights(jax.random.key(1), N=4, M=5)
    >>> flow(0.0, W).W2.shape
    (1, 4)
    """

    teacher: Teacher

    def __init__(self, teacher: Teacher):
        if not isinstance(teacher, Teacher):
            raise ValueError(f"`teacher` must be a Teacher, but is {type(teacher).__name__}.")
        layers = layers_of(teacher.weights)
        biases = any(map(has_biases, layers))
        if (
            teacher.activation not in KERNELS
            or len(layers) != 2
            or biases
            or (teacher.activate_output and teacher.activation != "linear")
        ):
            raise ValueError(
                f"`teacher` must have two layers, an activation among {', '.join(map(repr, KERNELS))}, a linear output and "
                f"no biases, but has {len(layers)} layers {'with biases ' if biases else ''}"
                f"with activation {teacher.activation!r}"
                f"{', also at the output' if teacher.activate_output else ''}. "
                "Give it to MinibatchDescent, which draws fresh samples from any teacher."
            )
        self.teacher = teacher

    def __call__(self, W: Weights) -> Float[Array, ""]:
        """The loss of a student with weights W."""
        T1, T2 = jtu.tree_leaves(self.teacher.weights)
        shapes = [jnp.shape(layer) for layer in jtu.tree_leaves(W)]
        N = shapes[0][0] if shapes and shapes[0] else 0
        if shapes != [(N, T1.shape[1]), (len(T2), N)]:
            raise ValueError(
                f"The student must have shapes (N, {T1.shape[1]}) and ({len(T2)}, N), as the teacher has inputs and outputs, "
                f"but has {' and '.join(map(str, shapes))}."
            )
        W1, W2 = jtu.tree_leaves(W)
        kernel, scale = KERNELS[self.teacher.activation], self.teacher.standard_deviation
        W1, T1 = scale * W1, scale * T1
        among_students = jnp.vdot(W2, W2 @ _among(kernel, W1))
        to_teacher = jnp.vdot(W2, T2 @ kernel(T1, W1))
        among_teachers = jnp.vdot(T2, T2 @ _among(kernel, T1))
        return (among_students - 2 * to_teacher + among_teachers) / 2


def _linear_kernel(U: Array, V: Array) -> Array:
    return U @ V.T


def _arcsine_kernel(U: Array, V: Array) -> Array:
    lengths = jnp.outer(1 + 2 * (U**2).sum(1), 1 + 2 * (V**2).sum(1))
    return 2 / jnp.pi * jnp.arcsin(2 * U @ V.T / jnp.sqrt(lengths))


def _arccosine_kernel(U: Array, V: Array) -> Array:
    lengths = jnp.outer(_length(U), _length(V))
    cosine = U @ V.T / jnp.where(lengths > 0, lengths, 1.0)
    return lengths * _arc(cosine) / (2 * jnp.pi)


KERNELS: dict[str, Any] = {"linear": _linear_kernel, "erf": _arcsine_kernel, "relu": _arccosine_kernel}


def _among(kernel: Any, U: Array) -> Array:
    """The kernel among the rows of U. Each with itself is known without an angle, which has no second derivative there."""
    if kernel is not _arccosine_kernel:
        return kernel(U, U)
    itself = jnp.eye(len(U), dtype=bool)
    lengths = _length(U)
    products = jnp.outer(lengths, lengths)
    cosine = jnp.where(itself, 0.0, U @ U.T / jnp.where(products > 0, products, 1.0))
    return jnp.where(itself, (U**2).sum(1) / 2, products * _arc(cosine) / (2 * jnp.pi))


def _length(U: Array) -> Array:
    """The length of every row, with derivative 0 where it is 0."""
    squares = (U**2).sum(1)
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)


@jax.custom_jvp
def _arc(cosine: Array) -> Array:
    """sin θ + (π − θ) cos θ. Its derivative, π − θ, is finite also where that of each term is not."""
    cosine = jnp.clip(cosine, -1.0, 1.0)
    return jnp.sqrt(1 - cosine**2) + (jnp.pi - jnp.arccos(cosine)) * cosine


@_arc.defjvp
def _arc_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (cosine,), (change,) = primals, tangents
    return _arc(cosine), (jnp.pi - jnp.arccos(jnp.clip(cosine, -1.0, 1.0))) * change

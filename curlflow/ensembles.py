"""Seeded draws of teachers, students, sign patterns and input covariances."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpy.typing import ArrayLike

from curlflow import _checks
from curlflow.models.curl import CurlFlow, Weights

__all__ = [
    "gaussian_weights",
    "uniform_weights",
    "sign_pattern",
    "sample_covariance",
    "near_solution",
    "student_teacher",
]


def gaussian_weights(
    key: PRNGKeyArray, *, N: int, M: int, P: int = 1, sigma1: float = 1.0, sigma2: float = 1.0
) -> Weights:
    """Weights with independent Gaussian entries: W1_ij ~ N(0, sigma1²/M), W2_pi ~ N(0, sigma2²/N).

    Parameters
    ----------
    key
        A JAX random key.
    N, M, P
        Numbers of hidden units, inputs and outputs.
    sigma1, sigma2
        Scales of the two layers, positive. Their ratio κ = sigma2²/sigma1² decides stability; the paper has κ = 1.

    Returns
    -------
    Weights
        W1 of shape (N, M) and W2 of shape (P, N). Their end-to-end map serves as a teacher: `S = W.end_to_end`.

    Raises
    ------
    ValueError
        If a size is not a positive whole number or a scale is not positive.

    References
    ----------
    arXiv:2510.02765, Eq. 14.

    Examples
    --------
    >>> import curlflow as cf, jax
    >>> teacher = cf.ensembles.gaussian_weights(jax.random.key(0), N=20, M=5)
    >>> teacher.end_to_end.shape
    (1, 5)
    """
    N, M, P = _sizes(N, M, P)
    scale1 = _checks.positive_number("sigma1", sigma1) / M**0.5
    scale2 = _checks.positive_number("sigma2", sigma2) / N**0.5
    key1, key2 = jax.random.split(_checks.random_key("key", key))
    return Weights(
        scale1 * jax.random.normal(key1, (N, M), jnp.float64),
        scale2 * jax.random.normal(key2, (P, N), jnp.float64),
    )


def uniform_weights(key: PRNGKeyArray, *, N: int, M: int, P: int = 1, scale: float = 1.0) -> Weights:
    """Weights with independent uniform entries on ±scale/√fan_in, as the paper's simulations draw them.

    The variances are scale²/(3M) and scale²/(3N): a third of the Gaussian draw's, with the same ratio κ = 1.

    Parameters
    ----------
    key
        A JAX random key.
    N, M, P
        Numbers of hidden units, inputs and outputs.
    scale
        The paper's "weight initialization scale", dimensionless, positive.

    Returns
    -------
    Weights
        W1 of shape (N, M) and W2 of shape (P, N).

    Raises
    ------
    ValueError
        If a size is not a positive whole number or the scale is not positive.

    Examples
    --------
    >>> import curlflow as cf, jax
    >>> W = cf.ensembles.uniform_weights(jax.random.key(0), N=4, M=9)
    >>> bool(abs(W.W1).max() <= 1 / 3)
    True
    """
    N, M, P = _sizes(N, M, P)
    scale = _checks.positive_number("scale", scale)
    key1, key2 = jax.random.split(_checks.random_key("key", key))
    bound1, bound2 = scale / M**0.5, scale / N**0.5
    return Weights(
        jax.random.uniform(key1, (N, M), jnp.float64, -bound1, bound1),
        jax.random.uniform(key2, (P, N), jnp.float64, -bound2, bound2),
    )


def sign_pattern(
    n: int, *, fraction: float | None = None, count: int | None = None, key: PRNGKeyArray | None = None
) -> Float[Array, " n"]:
    """Signs ±1 of n units, a fraction or a count of them flipped to −1.

    Parameters
    ----------
    n
        Number of units.
    fraction
        Fraction flipped, between 0 and 1: ⌊fraction · n⌋ units. The paper's αh (for d1) and αr (for d2).
    count
        Number flipped, between 0 and n. Give either this or `fraction`.
    key
        A JAX random key to flip units chosen at random; without one the first units are flipped, as in the paper.

    Returns
    -------
    Array
        The signs, shape (n,).

    Raises
    ------
    ValueError
        If both or neither of `fraction` and `count` are given, or if one is out of range.

    References
    ----------
    arXiv:2510.02765, Eq. 10.

    Examples
    --------
    >>> import curlflow as cf
    >>> cf.ensembles.sign_pattern(5, fraction=0.4)
    Array([-1., -1.,  1.,  1.,  1.], dtype=float64)
    """
    _checks.require_float64()
    n = _checks.positive_integer("n", n)
    _checks.require_room("n", n)
    flipped = _flipped_count(n, fraction, count)
    signs = jnp.asarray(np.where(np.arange(n) < flipped, -1.0, 1.0))
    return signs if key is None else jax.random.permutation(_checks.random_key("key", key), signs)


def sample_covariance(
    key: PRNGKeyArray, *, M: int, samples: int, standard_deviation: float = 1.0
) -> Float[Array, "inputs inputs"]:
    """The covariance XᵀX/n of n Gaussian inputs: what a network sees that learns from a finite data set.

    Parameters
    ----------
    key
        A JAX random key.
    M
        Number of inputs.
    samples
        Number n of samples; below M the covariance is singular.
    standard_deviation
        Standard deviation of every input, positive. The paper's simulations have 1/√2.

    Returns
    -------
    Array
        Symmetric positive semidefinite, shape (M, M).

    Raises
    ------
    ValueError
        If a size is not a positive whole number or the standard deviation is not positive.

    Examples
    --------
    >>> import curlflow as cf, jax
    >>> cf.ensembles.sample_covariance(jax.random.key(0), M=3, samples=250).shape
    (3, 3)
    """
    _checks.require_float64()
    M = _checks.positive_integer("M", M)
    samples = _checks.positive_integer("samples", samples)
    _checks.require_room("samples", max(samples, M) * M)
    scale = _checks.positive_number("standard_deviation", standard_deviation)
    X = scale * jax.random.normal(_checks.random_key("key", key), (samples, M), jnp.float64)
    C = X.T @ X / samples
    return (C + C.T) / 2


def near_solution(key: PRNGKeyArray, solution: Weights, *, distance: float) -> Weights:
    r"""Weights at a chosen distance from the solution manifold, beside a given point of it.

    The step from `solution` is normal to the manifold W2 W1 = S: it is the direction (W2ᵀU, U W1ᵀ) with a random Gaussian
    U of shape (P, M), so that for small distances the nearest solution is `solution` itself.

    Parameters
    ----------
    key
        A JAX random key.
    solution
        A point of the manifold, e.g. the teacher's own weights.
    distance
        Frobenius distance from `solution`, in the units of the weights, positive.

    Returns
    -------
    Weights
        The displaced weights.

    Raises
    ------
    ValueError
        If the distance is not positive, the weights are not finite, or all of them are zero (no direction is normal there).

    Examples
    --------
    >>> import curlflow as cf, jax
    >>> teacher = cf.ensembles.gaussian_weights(jax.random.key(0), N=20, M=5)
    >>> student = cf.ensembles.near_solution(jax.random.key(1), teacher, distance=1e-10)
    >>> bool(abs(student.end_to_end - teacher.end_to_end).max() < 1e-9)
    True
    """
    distance = _checks.positive_number("distance", distance)
    if not isinstance(solution, Weights):
        raise ValueError(f"`solution` must be Weights(W1, W2), but is {type(solution).__name__}.")
    solution = _checks.state_pytree("solution", solution)
    (N, _), (P, _) = solution.W1.shape, solution.W2.shape
    _checks.require_shape("solution.W2", solution.W2, (P, N), "(P, N)")
    if not any(jnp.any(layer) for layer in (solution.W1, solution.W2)):
        raise ValueError(
            "`solution` must not be zero in both layers, but is: no direction is normal to the manifold there."
        )
    U = jax.random.normal(_checks.random_key("key", key), solution.end_to_end.shape, jnp.float64)
    normal = Weights(solution.W2.T @ U, U @ solution.W1.T)
    length = jnp.sqrt(jnp.vdot(normal.W1, normal.W1) + jnp.vdot(normal.W2, normal.W2))
    return jax.tree.map(lambda layer, step: layer + distance * step / length, solution, normal)


def student_teacher(
    key: PRNGKeyArray,
    *,
    N: int,
    M: int,
    P: int = 1,
    alpha_h: float = 0.0,
    alpha_r: float = 0.0,
    C: ArrayLike | None = None,
) -> tuple[CurlFlow, Weights, Weights]:
    """A curl flow towards a random teacher, with a random student: the paper's setting in one draw.

    Teacher and student are independent Gaussian draws (`gaussian_weights`); the first ⌊αh M⌋ inputs and the first ⌊αr N⌋
    hidden units are flipped.

    Parameters
    ----------
    key
        A JAX random key.
    N, M, P
        Numbers of hidden units, inputs and outputs.
    alpha_h, alpha_r
        Flipped fractions of d1 (the hidden layer's rule) and of d2 (the readout's), between 0 and 1.
    C
        Input covariance, shape (M, M); None means the identity.

    Returns
    -------
    flow
        The `CurlFlow` on the teacher's map.
    student, teacher
        `Weights` to start from, and the teacher's own, a point of the solution manifold.

    Raises
    ------
    ValueError
        If a size, a fraction or the covariance is out of range.

    Examples
    --------
    >>> import curlflow as cf, jax
    >>> flow, student, teacher = cf.ensembles.student_teacher(jax.random.key(0), N=20, M=8, alpha_h=0.25)
    >>> int((flow.d1 < 0).sum()), float(flow.loss(teacher))
    (2, 0.0)
    """
    key_teacher, key_student = jax.random.split(_checks.random_key("key", key))
    alpha_h, alpha_r = _checks.fraction("alpha_h", alpha_h), _checks.fraction("alpha_r", alpha_r)
    teacher = gaussian_weights(key_teacher, N=N, M=M, P=P)
    student = gaussian_weights(key_student, N=N, M=M, P=P)
    d1, d2 = sign_pattern(M, fraction=alpha_h), sign_pattern(N, fraction=alpha_r)
    return CurlFlow(teacher.end_to_end, d1, d2, C), student, teacher


def _sizes(N: int, M: int, P: int) -> tuple[int, int, int]:
    _checks.require_float64()
    N, M, P = (_checks.positive_integer(*size) for size in (("N", N), ("M", M), ("P", P)))
    _checks.require_room("N", N * max(M, P))
    return N, M, P


def _flipped_count(n: int, fraction: float | None, count: int | None) -> int:
    if (fraction is None) == (count is None):
        given = "neither" if fraction is None else "both"
        raise ValueError(f"Exactly one of `fraction` and `count` must be given, but {given} were.")
    if fraction is not None:
        # The smallest nudge up, so that a fraction such as 0.29 of 100 units flips 29 of them and not 28.
        return int(_checks.fraction("fraction", fraction) * n * (1 + 1e-12))
    if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or not 0 <= count <= n:
        raise ValueError(f"`count` must be a whole number between 0 and n = {n}, but is {count!r}.")
    return int(count)

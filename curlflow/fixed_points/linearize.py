"""Linear approximation of a flow at a point: Jacobians by autodiff, spectra, divergence and curl."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result
from curlflow._saved import compared, outcome_attributes, parts_of, recorded
from curlflow._trees import float64
from curlflow.outcome import Ending, Outcome
from curlflow.system import Args, Flow, State, StateLike, flow_state

# A dense eigenvalue problem of this size takes minutes and gigabytes.
LARGEST_DENSE_SYSTEM = 8192
# Up to this size the dense matrix is as fast as products with it; up to the next it stands in where these do not converge.
LARGEST_SMALL_SYSTEM, LARGEST_FALLBACK_SYSTEM = 256, 2048
MOST_RESTARTS = 200
# A change of the Jacobian like rounding, and how far it may move an eigenvalue, both in units of its size.
SMALL_CHANGE, LARGEST_SHIFT = 1e-15, 1e-4


def jacobian(system: Flow, y: StateLike, *, t: float = 0.0, args: Args = None) -> Float[Array, "state state"]:
    """The Jacobian matrix of a flow at the state y, by forward-mode automatic differentiation.

    Parameters
    ----------
    system
        A vector field f(t, y, args).
    y
        The state: any pytree of float64 arrays, n numbers in all.
    t, args
        Time and arguments at which the vector field is taken.

    Returns
    -------
    Array
        J_ij = ∂f_i/∂y_j, shape (n, n), in units of 1/time. States are flattened in pytree order, each leaf row by row: for
        `Weights`, W1 first.

    Raises
    ------
    ValueError
        If `system` is not a vector field on states like `y`, `y` is not finite float64, or the Jacobian is not finite there.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> cf.jacobian(cf.toy_flow(s=1.0, flip="readout"), jnp.array([0.0, 0.0]))
    Array([[ 0.,  1.],
           [-1.,  0.]], dtype=float64)
    """
    return _finite_jacobian(system, flow_state(system, y, t, args), t, args)


def jacobian_operator(
    system: Flow, y: StateLike, *, t: float = 0.0, args: Args = None
) -> lx.JacobianLinearOperator:
    """The Jacobian of a flow as a linear operator on states: products with vectors only, no matrix.

    Parameters
    ----------
    system, y, t, args
        As for `jacobian`.

    Returns
    -------
    lineax.JacobianLinearOperator
        `.mv(v)` is J v for a pytree v like the state; `.transpose().mv(v)` is Jᵀ v.

    Raises
    ------
    ValueError
        As `jacobian` does.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> J = cf.jacobian_operator(cf.toy_flow(), jnp.array([0.0, 0.0]))
    >>> J.mv(jnp.array([0.0, 2.0]))
    Array([2., 0.], dtype=float64)
    """
    y = flow_state(system, y, t, args)
    return lx.JacobianLinearOperator(lambda state, args: system(float64(t), state, args), y, args)


@result
class Spectrum:
    """Eigenvalues of a Jacobian, made by `spectrum`.

    Attributes
    ----------
    eigenvalues
        In order of descending real part, complex, shape (k,), in units of 1/time.
    eigenvectors
        Their unit right eigenvectors in flattened coordinates, as columns, complex, shape (n, k).
    residuals
        ‖J v − λ v‖ of every pair, shape (k,): an eigenvalue of a normal matrix is at most this far from the one reported.
    outcome
        Completed; not converged if an iterative method found fewer than were asked for; undecided if the Jacobian is so
        strongly non-normal that rounding moves its eigenvalues.
    """

    eigenvalues: Complex[np.ndarray, " k"]
    eigenvectors: Complex[np.ndarray, "state k"]
    residuals: Float[np.ndarray, " k"]
    outcome: Outcome

    def to_xarray(self) -> "xr.Dataset":
        """Real and imaginary parts, residuals and eigenvectors along the dimensions `mode` and `state`."""
        dataset = xr.Dataset(
            {
                "real": ("mode", np.real(self.eigenvalues)),
                "imaginary": ("mode", np.imag(self.eigenvalues)),
                "residual": ("mode", self.residuals),
                "eigenvector_real": (("state", "mode"), np.real(self.eigenvectors)),
                "eigenvector_imaginary": (("state", "mode"), np.imag(self.eigenvectors)),
            },
            attrs=outcome_attributes(self.outcome),
        )
        held = [
            (self.eigenvalues, ("real", "imaginary")),
            (self.eigenvectors, ("eigenvector_real", "eigenvector_imaginary")),
            (self.residuals, "residual"),
        ]
        return recorded(dataset, Spectrum, compared(self), held)

    @classmethod
    def from_xarray(cls, dataset: "xr.Dataset") -> "Spectrum":
        """The spectrum of which `to_xarray` made the dataset, number by number.

        Parameters
        ----------
        dataset
            What `to_xarray` returned, or what was read from a file of it.

        Returns
        -------
        Spectrum
            Equal to the one that was saved.

        Raises
        ------
        ValueError
            If the dataset is none of a spectrum, or no longer holds all of it.

        Examples
        --------
        >>> import curlflow as cf, jax.numpy as jnp
        >>> centre = cf.spectrum(cf.toy_flow(flip="readout"), jnp.array([0.0, 0.0]))
        >>> cf.fixed_points.Spectrum.from_xarray(centre.to_xarray()) == centre
        True
        """
        return cls(**parts_of(dataset, Spectrum))

    def __str__(self) -> str:
        n, k = self.eigenvectors.shape
        leading = f"leading eigenvalue {self.eigenvalues[0]:.6g}" if k else "none found"
        worst = f", largest residual {self.residuals.max():.1e}" if k else ""
        return f"Spectrum: {k} of {n} eigenvalues, {leading}{worst}; {self.outcome}"


def spectrum(
    system: Flow,
    y: StateLike,
    k: int | None = None,
    *,
    t: float = 0.0,
    args: Args = None,
    key: PRNGKeyArray | None = None,
) -> Spectrum:
    """Eigenvalues of the Jacobian at y: all of them, or the k with the largest real parts.

    Parameters
    ----------
    system, y, t, args
        As for `jacobian`.
    k
        How many leading eigenvalues; None means all, from the dense matrix. In states of more than 256 numbers, fewer than
        n − 1 are found by ARPACK's restarted Arnoldi iteration from products with the Jacobian alone; if that does not
        converge in 200 restarts, from the dense matrix, unless the state has more than 2048 numbers.
    key
        JAX random key of the iteration's starting vector; None means `jax.random.key(0)`.

    Returns
    -------
    Spectrum
        Eigenvalues by descending real part, unit eigenvectors, and the residual of every pair. The outcome is "undecided"
        where a change of the Jacobian by rounding would move them visibly: then they are points of its pseudospectrum,
        however small the residuals.

    Raises
    ------
    ValueError
        If `k` is not between 1 and n, if all eigenvalues are asked of a system too large for a dense matrix, or as
        `jacobian` does.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> centre = cf.spectrum(cf.toy_flow(s=1.0, flip="readout"), jnp.array([0.0, 0.0]))
    >>> [complex(value) for value in centre.eigenvalues]
    [1j, -1j]
    """
    y = flow_state(system, y, t, args)
    n = ravel_pytree(y)[0].size
    key = jax.random.key(0) if key is None else _checks.random_key("key", key)
    if k is not None and not 1 <= _checks.positive_integer("k", k) <= n:
        raise ValueError(f"`k` must lie between 1 and the state's size {n}, but is {k}.")
    if k is not None and k < n - 1 and n > LARGEST_SMALL_SYSTEM:
        start = jax.random.normal(key, (n,), jnp.float64)
        found = _leading_spectrum(system, y, k, float64(t), args, np.asarray(start))
        if found.outcome.ending is not Ending.NOT_CONVERGED or n > LARGEST_FALLBACK_SYSTEM:
            return found
    if n > LARGEST_DENSE_SYSTEM:
        raise ValueError(
            f"`k` must be given for states of more than {LARGEST_DENSE_SYSTEM} numbers, but y has {n}: "
            "ask for the leading eigenvalues only."
        )
    J = np.asarray(_finite_jacobian(system, y, t, args))
    found = dense_spectrum(J, k)
    return _doubted(found, _dense_shift(J, found.eigenvalues), _size(J))


def dense_spectrum(J: Float[np.ndarray, "state state"], k: int | None = None) -> Spectrum:
    """All eigenvalues of a Jacobian, or the k with the largest real parts, from the matrix itself."""
    values, vectors = np.linalg.eig(J)
    residuals = np.linalg.norm(J @ vectors - vectors * values, axis=0)
    outcome = Outcome(Ending.COMPLETED, None, "All eigenvalues.")
    return _sorted_spectrum(values, vectors, residuals, outcome, k)


def divergence(system: Flow, y: StateLike, *, t: float = 0.0, args: Args = None) -> Float[Array, ""]:
    """The divergence tr J of a flow at y: the rate at which it grows volumes, in units of 1/time.

    Its time average along an orbit is the sum of all Lyapunov exponents. Exact, by n products with the Jacobian; no matrix
    is stored.

    Parameters
    ----------
    system, y, t, args
        As for `jacobian`.

    Returns
    -------
    Array
        The divergence, a scalar.

    Raises
    ------
    ValueError
        As `jacobian` does.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> cf.fixed_points.divergence(cf.toy_flow(s=1.0, flip="readout"), jnp.array([2.0, 1.0]))  # w1² − w2²
    Array(3., dtype=float64)
    """
    trace = _trace(system, flow_state(system, y, t, args), float64(t), args)
    _checks.require_finite("divergence of f at y", trace)
    return trace


def curl_fraction(system: Flow, y: StateLike, *, t: float = 0.0, args: Args = None) -> Float[Array, ""]:
    """How far a flow is from a gradient flow at y: ‖J − Jᵀ‖ / ‖J + Jᵀ‖ in Frobenius norms.

    0 where the Jacobian is symmetric, as it is everywhere for a gradient flow; infinite for a pure rotation.

    Parameters
    ----------
    system, y, t, args
        As for `jacobian`.

    Returns
    -------
    Array
        The fraction, a dimensionless scalar.

    Raises
    ------
    ValueError
        As `jacobian` does.

    Examples
    --------
    >>> import curlflow as cf, jax.numpy as jnp
    >>> flow, w = cf.toy_flow(s=1.0, flip="readout"), jnp.array([2.0, 1.0])
    >>> float(cf.curl_fraction(flow.gradient_flow(), w)), round(float(cf.curl_fraction(flow, w)), 3)
    (0.0, 1.029)
    """
    J = jacobian(system, y, t=t, args=args)
    curl, rest = jnp.linalg.norm(J - J.T), jnp.linalg.norm(J + J.T)
    return jnp.where(curl > 0, curl / jnp.where(curl > 0, rest, 1.0), 0.0)


def _finite_jacobian(system: Flow, y: State, t: float, args: Args) -> Float[Array, "state state"]:
    J = dense_jacobian(system, y, float64(t), args)
    _checks.require_finite("Jacobian of f at y", J)
    return J


@eqx.filter_jit
def dense_jacobian(system: Flow, y: State, t: Array, args: Args) -> Float[Array, "state state"]:
    """The Jacobian at a state that was checked."""
    field, flat = flat_field(system, y, t, args)
    return jax.jacfwd(field)(flat)


@eqx.filter_jit
def _jacobian_product(system: Flow, y: State, t: Array, args: Args, v: Array) -> Float[Array, " state"]:
    field, flat = flat_field(system, y, t, args)
    return jax.jvp(field, (flat,), (v,))[1]


@eqx.filter_jit
def _trace(system: Flow, y: State, t: Array, args: Args) -> Float[Array, ""]:
    field, flat = flat_field(system, y, t, args)
    _, product = jax.linearize(field, flat)

    def diagonal_entry(i: Array) -> Array:
        return product(jnp.zeros_like(flat).at[i].set(1.0))[i]

    return jax.lax.map(diagonal_entry, jnp.arange(flat.size), batch_size=min(flat.size, 64)).sum()


def flat_field(
    system: Flow, y: State, t: Array, args: Args
) -> tuple[Callable[[Array], Array], Float[Array, " state"]]:
    """The vector field on flattened states, and the flattened state."""
    flat, unravel = ravel_pytree(y)
    return lambda state: ravel_pytree(system(t, unravel(state), args))[0], flat


def _leading_spectrum(
    system: Flow, y: State, k: int, t: Array, args: Args, start: Float[np.ndarray, " state"]
) -> Spectrum:
    def product(v: np.ndarray) -> np.ndarray:
        return np.asarray(_jacobian_product(system, y, t, args, jnp.asarray(v.reshape(-1))))

    operator = scipy.sparse.linalg.LinearOperator((start.size, start.size), matvec=product, dtype=np.float64)
    _checks.require_finite("Jacobian of f at y, times a vector", jnp.asarray(product(start)))
    outcome = Outcome(Ending.COMPLETED, None, f"The {k} leading eigenvalues converged.")
    try:
        values, vectors = _arpack(operator, k, start, MOST_RESTARTS)
    except scipy.sparse.linalg.ArpackNoConvergence as error:
        values, vectors = error.eigenvalues, error.eigenvectors
        message = (
            f"Only {len(values)} of {k} eigenvalues converged in {MOST_RESTARTS} restarts: the leading ones are crowded, or "
            "the Jacobian is strongly non-normal, and its pseudospectrum says more of it than its spectrum. "
            "Ask for more or for all of them."
        )
        outcome = Outcome(Ending.NOT_CONVERGED, None, message)
    except scipy.sparse.linalg.ArpackError as error:  # such as for a Jacobian of zeros
        values, vectors = np.zeros(0), np.zeros((start.size, 0))
        message = f"ARPACK gave up ({error}). Ask for all eigenvalues."
        outcome = Outcome(Ending.NOT_CONVERGED, None, message)
    images = [product(v.real) + 1j * product(v.imag) for v in vectors.T]
    residuals = np.array(
        [np.linalg.norm(Jv - x * v) for Jv, x, v in zip(images, values, vectors.T, strict=True)]
    )
    found = _sorted_spectrum(values, vectors, residuals, outcome, k)
    if outcome.ending is Ending.NOT_CONVERGED:
        return found
    scale = float(np.linalg.norm(product(start)) / np.linalg.norm(start))
    return _doubted(found, _arpack_shift(operator, found, scale), scale)


def _arpack(
    operator: scipy.sparse.linalg.LinearOperator, k: int, start: np.ndarray, restarts: int
) -> tuple[np.ndarray, np.ndarray]:
    return scipy.sparse.linalg.eigs(operator, k, which="LR", v0=start, maxiter=restarts)


# Of a strongly non-normal matrix an eigenvalue solver finds, with residuals like rounding, whatever is an eigenvalue of some
# matrix beside it. So the question is asked again of a matrix beside it.


def _size(J: np.ndarray) -> float:
    """The root mean square of how much longer the matrix makes a vector."""
    return float(np.linalg.norm(J)) / len(J) ** 0.5


def _dense_shift(J: np.ndarray, values: np.ndarray) -> float:
    """By how much the real parts of leading eigenvalues move if the Jacobian changes by rounding."""
    if np.linalg.norm(J @ J.T - J.T @ J) <= 1e-6 * np.linalg.norm(J) ** 2:
        return 0.0  # they move no more than the matrix
    change = np.random.default_rng(0).normal(size=J.shape) / (2 * len(J) ** 0.5)
    return _largest_difference(values, np.linalg.eigvals(J + SMALL_CHANGE * _size(J) * change))


def _arpack_shift(operator: scipy.sparse.linalg.LinearOperator, found: Spectrum, scale: float) -> float:
    """The same by products alone; started from the eigenvectors that were found, which is where it ends if they are firm."""
    n, k = len(found.eigenvectors), len(found.eigenvalues)
    left, right = np.random.default_rng(0).normal(size=(2, n)) / n**0.5

    def product(v: np.ndarray) -> np.ndarray:
        v = v.reshape(-1)
        return operator.matvec(v) + SMALL_CHANGE * scale * left * (right @ v)

    changed = scipy.sparse.linalg.LinearOperator((n, n), matvec=product, dtype=np.float64)
    try:
        moved, _ = _arpack(changed, k, np.real(found.eigenvectors).sum(axis=1), MOST_RESTARTS)
    except scipy.sparse.linalg.ArpackError:
        return np.inf
    return _largest_difference(found.eigenvalues, moved)


def _largest_difference(values: np.ndarray, moved: np.ndarray) -> float:
    k = len(values)
    return float(np.abs(np.sort(np.real(values))[::-1] - np.sort(np.real(moved))[::-1][:k]).max(initial=0.0))


def _doubted(found: Spectrum, shift: float, scale: float) -> Spectrum:
    """The spectrum, undecided if rounding moves it too far."""
    if shift <= LARGEST_SHIFT * scale:
        return found
    by = f"by {shift:.2g}" if np.isfinite(shift) else "without bound"
    message = (
        f"The Jacobian is strongly non-normal: a change by {SMALL_CHANGE:.0e} of its size moves the leading eigenvalues "
        f"{by}. These are points of its pseudospectrum and do not decide on stability: integrate from beside the point."
    )
    return dataclasses.replace(found, outcome=Outcome(Ending.UNDECIDED, None, message))


def _sorted_spectrum(
    values: np.ndarray, vectors: np.ndarray, residuals: np.ndarray, outcome: Outcome, k: int | None
) -> Spectrum:
    order = np.lexsort((-np.imag(values), -np.real(values)))[:k]
    return Spectrum(
        values[order].astype(complex), vectors[:, order].astype(complex), residuals[order], outcome
    )

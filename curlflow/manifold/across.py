"""Exact spectra of the two-layer network at its two kinds of fixed points: the solution manifold and the origin."""

from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np
import scipy.linalg
import xarray as xr
from jaxtyping import Array, Bool, Complex, Float, PRNGKeyArray

from curlflow import _checks
from curlflow.models import CurlFlow, Weights

EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class TransverseSpectrum:
    """Eigenvalues of a curl flow's Jacobian at a point of its solution manifold, made by `transverse_spectrum`.

    Attributes
    ----------
    eigenvalues
        The eigenvalues across the manifold, shape (P, rank C): row p belongs to the p-th readout gain; each row
        in descending order, in units of 1/time. They are real.
    readout_gains
        The eigenvalues g_p of W2 W2ᵀ, ascending, shape (P,).
    n_manifold
        Number of further eigenvalues, which are 0: N(M + P) − P rank C directions along the manifold.
    tolerance
        Rounding error of the eigenvalues.
    """

    eigenvalues: Float[np.ndarray, "outputs modes"]
    readout_gains: Float[np.ndarray, " outputs"]
    n_manifold: int
    tolerance: float

    @property
    def leading(self) -> float:
        """The largest eigenvalue across the manifold."""
        return float(self.eigenvalues.max())

    @property
    def n_unstable(self) -> int:
        """How many directions across the manifold are unstable beyond rounding error."""
        return int(np.sum(self.eigenvalues > self.tolerance))

    @property
    def stable(self) -> bool:
        """Whether all directions across the manifold are stable beyond rounding error."""
        return bool(self.leading < -self.tolerance)

    def all_eigenvalues(self) -> Float[np.ndarray, " state"]:
        """All N(M + P) eigenvalues of the Jacobian, in descending order; exactly 0 along the manifold."""
        across = self.eigenvalues.ravel()
        return -np.sort(-np.concatenate([across, np.zeros(self.n_manifold)]))

    def to_xarray(self) -> xr.Dataset:
        """The eigenvalues along the dimensions `output` and `mode`, with the readout gains."""
        return xr.Dataset(
            {"eigenvalue": (("output", "mode"), self.eigenvalues)},
            coords={"readout_gain": ("output", self.readout_gains)},
            attrs={"n_manifold": self.n_manifold, "tolerance": self.tolerance},
        )

    def __str__(self) -> str:
        verdict = "stable" if self.stable else f"{self.n_unstable} unstable directions"
        return (
            f"TransverseSpectrum: {self.eigenvalues.size} eigenvalues across a {self.n_manifold}-dimensional "
            f"manifold, {verdict}, leading eigenvalue {self.leading:.6g}"
        )


def transverse_spectrum(flow: CurlFlow, W: Weights) -> TransverseSpectrum:
    r"""Eigenvalues of the Jacobian of a curl flow on its solution manifold, from M × M symmetric problems.

    Close to the manifold E C = 0 the error map U obeys the linear flow

    .. math:: \dot U = -(U C A + G\, U C D_1), \qquad A = W_1^\top D_2 W_1, \quad G = W_2 W_2^\top,

    so that in the eigenbasis of G the nonzero spectrum of the N(M+P)-dimensional Jacobian is that of −C(A + g_p
    D1), one problem for each eigenvalue g_p of G. It is the spectrum of the symmetric −C^½(A + g_p D1)C^½: all
    eigenvalues are real, for every choice of signs. By Sylvester's law of inertia the signs of the eigenvalues,
    and so the stability, do not depend on C.

    Parameters
    ----------
    flow
        The curl flow: any number of outputs, any covariance.
    W
        A point of the manifold W2 W1 = S (or E C = 0, if C is singular).

    Returns
    -------
    TransverseSpectrum
        The eigenvalues, and the number of zeros beside them, counted by the rank of C.

    Raises
    ------
    ValueError
        If the arguments are not a CurlFlow and its Weights, `W` is not on the solution manifold, or there are
        fewer hidden units than both inputs and outputs.

    References
    ----------
    arXiv:2510.02765, Eqs. 98–101 (P = 1 and C = I).

    Examples
    --------
    Eight of the 42 eigenvalues are not 0, and take two 4 × 4 matrices:

    >>> import curlflow as cf, jax
    >>> from curlflow.manifold.across import transverse_spectrum
    >>> W = cf.ensembles.gaussian_weights(jax.random.key(0), N=7, M=4, P=2)
    >>> flow = cf.CurlFlow(W.end_to_end, d1=[-1, 1, 1, 1], d2=[1] * 7)
    >>> print(transverse_spectrum(flow, W))
    TransverseSpectrum: 8 eigenvalues across a 34-dimensional manifold, stable, leading eigenvalue -0.790573
    """
    W = _solution(flow, W)
    W1, W2 = np.asarray(W.W1), np.asarray(W.W2)
    root = _covariance_root(flow)
    gains = np.linalg.eigvalsh(W2 @ W2.T)
    if W2.shape[0] > W2.shape[1]:
        # Of the P gains only N can differ from 0.
        gains[: W2.shape[0] - W2.shape[1]] = 0.0
    flipped_gram = W1.T @ (np.asarray(flow.d2)[:, None] * W1)
    matrices = [root.T @ (flipped_gram + g * np.diag(flow.d1)) @ root for g in gains]
    eigenvalues = -np.array([np.linalg.eigvalsh(matrix) for matrix in matrices])
    N, M = W1.shape
    P, modes = eigenvalues.shape
    largest = max(np.linalg.norm(matrix, 2) for matrix in matrices)
    return TransverseSpectrum(eigenvalues, gains, N * (M + P) - P * modes, 8 * M * EPS * largest)


@dataclass(frozen=True)
class OriginSpectrum:
    """Eigenvalues of a curl flow's Jacobian at the origin, made by `origin_spectrum`.

    Attributes
    ----------
    eigenvalues
        All N(M + P) eigenvalues, by descending real part, in units of 1/time: pairs ±λ with λ² = d2_i μ_p, and
        zeros.
    teacher_gains
        The eigenvalues μ_p of S C D1 C Sᵀ, ascending, shape (P,). For P = 1 and C = I there is one, Σ = Σ_j d1_j
        s_j².
    n_saddle_planes
        Pairs with d2_i μ_p > 0: λ is real, one direction of the plane is unstable and one is stable.
    n_centre_planes
        Pairs with d2_i μ_p < 0: λ is imaginary, and the linear flow turns in the plane.
    n_zero
        Number of eigenvalues which are 0.
    """

    eigenvalues: Complex[np.ndarray, " state"]
    teacher_gains: Float[np.ndarray, " outputs"]
    n_saddle_planes: int
    n_centre_planes: int
    n_zero: int

    def __str__(self) -> str:
        return (
            f"OriginSpectrum: {self.n_saddle_planes} saddle planes, {self.n_centre_planes} centre planes, "
            f"{self.n_zero} zero eigenvalues"
        )


def origin_spectrum(flow: CurlFlow) -> OriginSpectrum:
    r"""Eigenvalues of the Jacobian of a curl flow at W1 = 0, W2 = 0, and the planes they span.

    The nonzero eigenvalues are ±λ with

    .. math:: \lambda^2 = d_{2,i}\, \mu_p, \qquad \mu_p \text{ an eigenvalue of } S C D_1 C S^\top,

    a plane for every hidden unit i and every p. Flips may make μ_p negative; for P = 1 and C = I it is Σ = Σ_j
    d1_j s_j². A positive λ² makes a saddle plane, a negative one a centre plane. So unflipped hidden units (d2_i
    = +1) are saddles where μ_p > 0 and centres where μ_p < 0, and flipped ones the other way round.

    Parameters
    ----------
    flow
        The curl flow: any number of outputs, any covariance.

    Returns
    -------
    OriginSpectrum
        The eigenvalues, and how many planes of each kind there are. The zeros are counted by the rank of S C D1 C
        Sᵀ.

    Raises
    ------
    ValueError
        If `flow` is not a CurlFlow.

    Notes
    -----
    Erratum to the paper: its Eq. 76 gives √Σ to d2_i = 1 and i√Σ to d2_i = −1, and with that saddles to the first and centres
    to the second. This holds for Σ > 0 only. For Σ < 0 the two cases swap, as the paper's main text says.

    References
    ----------
    arXiv:2510.02765, Eq. 76 and Appendix B.2 (P = 1 and C = I).

    Examples
    --------
    Flip the rule of the input with the larger teacher weight, and every saddle plane turns into a centre plane:

    >>> import curlflow as cf
    >>> from curlflow.manifold.across import origin_spectrum
    >>> print(origin_spectrum(cf.CurlFlow([1.0, 2.0], d1=[1, 1], d2=[1, 1, 1])))
    OriginSpectrum: 3 saddle planes, 0 centre planes, 3 zero eigenvalues
    >>> print(origin_spectrum(cf.CurlFlow([1.0, 2.0], d1=[1, -1], d2=[1, 1, 1])))
    OriginSpectrum: 0 saddle planes, 3 centre planes, 3 zero eigenvalues
    """
    _require_curl_flow(flow)
    d1, d2 = np.asarray(flow.d1), np.asarray(flow.d2)
    SC = np.asarray(flow.S if flow.C is None else flow.S @ flow.C)
    gains = np.linalg.eigvalsh((SC * d1) @ SC.T)
    (P, M), (N,) = SC.shape, d2.shape
    rounding = 8 * (P + M) * EPS * np.linalg.norm(SC, 2) ** 2
    nonzero = gains[np.abs(gains) > rounding]
    squares = np.outer(d2, nonzero).ravel()
    roots = np.sqrt(squares.astype(complex))
    n_zero = N * (M + P) - 2 * squares.size
    eigenvalues = np.concatenate([roots, -roots, np.zeros(n_zero)])
    order = np.lexsort((-eigenvalues.imag, -eigenvalues.real))
    return OriginSpectrum(
        eigenvalues[order], gains, int(np.sum(squares > 0)), int(np.sum(squares < 0)), n_zero
    )


@dataclass(frozen=True)
class StabilitySample:
    """Stability margins of random networks of one size, made by `sample_stability`.

    Attributes
    ----------
    margins
        The smallest eigenvalue of W1ᵀ D2 W1 + g_p D1 over all p, for each network, shape (samples,), in units of
        σ1².
    """

    margins: Float[np.ndarray, " samples"]

    @property
    def unstable(self) -> Bool[np.ndarray, " samples"]:
        """Which networks have an unstable solution manifold, whatever their input covariance."""
        return self.margins <= 0

    @property
    def probability(self) -> float:
        """The fraction of unstable networks."""
        return float(np.mean(self.unstable))

    @property
    def standard_error(self) -> float:
        """The standard error of that fraction, by Wilson's formula: positive even if all networks agree."""
        n, p = self.margins.size, self.probability
        return float(np.sqrt(n * p * (1 - p) + 0.25) / (n + 1))

    def __str__(self) -> str:
        n = self.margins.size
        return (
            f"StabilitySample: {np.sum(self.unstable)} of {n} networks unstable, "
            f"probability {self.probability:.3g} ± {self.standard_error:.2g}"
        )


def sample_stability(
    key: PRNGKeyArray,
    *,
    N: int,
    M: int,
    P: int = 1,
    alpha_h: float = 0.0,
    alpha_r: float = 0.0,
    kappa: float = 1.0,
    weights: Literal["gaussian", "uniform"] = "gaussian",
    samples: int = 200,
) -> StabilitySample:
    """Stability of the solution manifold at the weights of random networks of a finite size.

    A network is unstable when W1ᵀ D2 W1 + g_p D1 has a negative eigenvalue for some eigenvalue g_p of W2 W2ᵀ. The
    smallest eigenvalue is concave in g, so the smallest and the largest g_p decide. Beside the boundary of
    `random_matrix.stability_boundary` finite networks are stable with a probability that
    `random_matrix.instability_probability` approximates for P = 1.

    Parameters
    ----------
    key
        A JAX random key.
    N, M, P
        Numbers of hidden units, inputs and outputs.
    alpha_h, alpha_r
        Fractions of −1 in d1 and d2: ⌊αh M⌋ inputs and ⌊αr N⌋ hidden units are flipped.
    kappa
        Variance ratio: the entries of W1 have variance 1/M, those of W2 variance κ/N.
    weights
        Their distribution, "gaussian" or "uniform".
    samples
        How many networks to draw.

    Returns
    -------
    StabilitySample
        The margin of every network, and the fraction of unstable ones.

    Raises
    ------
    ValueError
        If a size is not a positive whole number, a fraction lies outside [0, 1], `kappa` is not positive, or the
        distribution is unknown.

    References
    ----------
    arXiv:2510.02765, Eqs. 14 and 101.

    Examples
    --------
    >>> import jax
    >>> from curlflow.manifold.across import sample_stability
    >>> print(sample_stability(jax.random.key(0), N=100, M=30, alpha_h=0.5, samples=50))
    StabilitySample: 9 of 50 networks unstable, probability 0.18 ± 0.054
    """
    _checks.require_one_of("weights", weights, ("gaussian", "uniform"))
    kappa = _checks.positive_number("kappa", kappa)
    N, M, P = (_checks.positive_integer(name, size) for name, size in (("N", N), ("M", M), ("P", P)))
    samples = _checks.positive_integer("samples", samples)
    d1, d2 = _signs("alpha_h", alpha_h, M), _signs("alpha_r", alpha_r, N)
    # NumPy's draws need no compilation, which for thousands of small networks of many sizes would be most of the work.
    draws = np.random.default_rng(np.asarray(jax.random.key_data(_checks.random_key("key", key))))
    margins = [
        _margin(
            _unit_variance(draws, weights, (N, M)) / M**0.5,
            _unit_variance(draws, weights, (P, N)) * (kappa / N) ** 0.5,
            d1,
            d2,
        )
        for _ in range(samples)
    ]
    return StabilitySample(np.array(margins))


def _signs(name: str, fraction: float, n: int) -> np.ndarray:
    """The signs of `ensembles.sign_pattern`, in NumPy."""
    # The smallest nudge up, so that a fraction such as 0.29 of 100 units flips 29 of them and not 28.
    flipped = int(_checks.fraction(name, fraction) * n * (1 + 1e-12))
    return np.where(np.arange(n) < flipped, -1.0, 1.0)


def _unit_variance(draws: np.random.Generator, weights: str, shape: tuple[int, int]) -> np.ndarray:
    if weights == "gaussian":
        return draws.standard_normal(shape)
    return draws.uniform(-(3**0.5), 3**0.5, shape)


def _margin(W1: np.ndarray, W2: np.ndarray, d1: np.ndarray, d2: np.ndarray) -> float:
    flipped_gram = W1.T @ (d2[:, None] * W1)
    gains = np.linalg.eigvalsh(W2 @ W2.T)
    return min(_smallest_eigenvalue(flipped_gram + g * np.diag(d1)) for g in {gains[0], gains[-1]})


def _smallest_eigenvalue(matrix: np.ndarray) -> float:
    return float(scipy.linalg.eigh(matrix, eigvals_only=True, subset_by_index=[0, 0])[0])


def _solution(flow: CurlFlow, W: Weights) -> Weights:
    """The weights, if they lie on the flow's solution manifold and that is a manifold there."""
    _require_curl_flow(flow)
    flow.check_state(W)
    W = _checks.state_pytree("W", W)
    (N, M), (P, _) = W.W1.shape, W.W2.shape
    if min(M, P) > N:
        raise ValueError(
            f"`W` must have at least as many hidden units as inputs or outputs, but N = {N}, M = {M}, P = {P}: "
            "a bottleneck cannot change the end-to-end map in every direction."
        )
    error, size = _weighted(flow, flow.error(W)), _weighted(flow, flow.S)
    rounding = (
        100
        * (N + M)
        * EPS
        * float(np.linalg.norm(size) + np.linalg.norm(W.W2) * np.linalg.norm(_weighted(flow, W.W1)))
    )
    if np.linalg.norm(error) > rounding:
        raise ValueError(
            "`W` must lie on the solution manifold W2 W1 = S, but the error map's norm there is "
            f"{np.linalg.norm(flow.error(W)):.3g}. Integrate the flow to its end, or make a flow whose S is W2 W1."
        )
    return W


def _weighted(flow: CurlFlow, rows: Array) -> np.ndarray:
    return np.asarray(rows if flow.C is None else rows @ flow.C)


def _covariance_root(flow: CurlFlow) -> Float[np.ndarray, "inputs modes"]:
    """A matrix R of full column rank with R Rᵀ = C, so that −C K has the nonzero eigenvalues of −Rᵀ K R."""
    M = flow.d1.shape[0]
    if flow.C is None:
        return np.eye(M)
    variances, directions = np.linalg.eigh(np.asarray(flow.C))
    kept = variances > 8 * M * EPS * variances[-1]
    return directions[:, kept] * np.sqrt(variances[kept])


def _require_curl_flow(flow: CurlFlow) -> None:
    if not isinstance(flow, CurlFlow):
        raise ValueError(f"`flow` must be a CurlFlow, but is {type(flow).__name__}.")

"""The exact spectrum of the two-layer network across its solution manifold."""

import numpy as np
from jaxtyping import Array, Float

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result
from curlflow.models import CurlFlow, Weights

EPS = float(np.finfo(np.float64).eps)


@result
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

    def to_xarray(self) -> "xr.Dataset":
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
    >>> from curlflow.manifold import transverse_spectrum
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
    largest = float(max(np.linalg.norm(matrix, 2) for matrix in matrices))
    return TransverseSpectrum(eigenvalues, gains, N * (M + P) - P * modes, 8 * M * EPS * largest)


def _solution(flow: CurlFlow, W: Weights) -> Weights:
    """The weights, if they lie on the flow's solution manifold and that is a manifold there."""
    require_curl_flow(flow)
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


def require_curl_flow(flow: CurlFlow) -> None:
    """Refuse any other flow, whose solutions are not known to be these."""
    if not isinstance(flow, CurlFlow):
        raise ValueError(f"`flow` must be a CurlFlow, but is {type(flow).__name__}.")

"""The exact spectrum of the two-layer network at the origin."""

import numpy as np
from jaxtyping import Complex, Float

from curlflow._later import xr
from curlflow._results import result
from curlflow.manifold.across import EPS, require_curl_flow
from curlflow.models import CurlFlow


@result
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

    def to_xarray(self) -> "xr.Dataset":
        """Real and imaginary parts along `mode`, the teacher's gains along `output`; the counts as attributes."""
        return xr.Dataset(
            {
                "real": ("mode", np.real(self.eigenvalues)),
                "imaginary": ("mode", np.imag(self.eigenvalues)),
                "teacher_gain": ("output", self.teacher_gains),
            },
            attrs={name: getattr(self, name) for name in ("n_saddle_planes", "n_centre_planes", "n_zero")},
        )

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
    >>> from curlflow.manifold import origin_spectrum
    >>> print(origin_spectrum(cf.CurlFlow([1.0, 2.0], d1=[1, 1], d2=[1, 1, 1])))
    OriginSpectrum: 3 saddle planes, 0 centre planes, 3 zero eigenvalues
    >>> print(origin_spectrum(cf.CurlFlow([1.0, 2.0], d1=[1, -1], d2=[1, 1, 1])))
    OriginSpectrum: 0 saddle planes, 3 centre planes, 3 zero eigenvalues
    """
    require_curl_flow(flow)
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

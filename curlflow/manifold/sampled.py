"""How often random networks of a finite size are unstable at their solutions."""

from typing import Literal

import jax
import numpy as np
import scipy
from jaxtyping import Bool, Float, PRNGKeyArray

from curlflow import _checks
from curlflow._later import xr
from curlflow._results import result
from curlflow.ensembles import sign_pattern


@result
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

    def to_xarray(self) -> "xr.Dataset":
        """The margins along `sample`; the fraction of unstable networks and its standard error as attributes."""
        return xr.Dataset(
            {"margin": ("sample", self.margins)},
            attrs={"probability": self.probability, "standard_error": self.standard_error},
        )

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
    >>> from curlflow.manifold import sample_stability
    >>> print(sample_stability(jax.random.key(0), N=100, M=30, alpha_h=0.5, samples=50))
    StabilitySample: 9 of 50 networks unstable, probability 0.18 ± 0.054
    """
    _checks.require_one_of("weights", weights, ("gaussian", "uniform"))
    kappa = _checks.positive_number("kappa", kappa)
    N, M, P = (_checks.positive_integer(name, size) for name, size in (("N", N), ("M", M), ("P", P)))
    samples = _checks.positive_integer("samples", samples)
    alpha_h, alpha_r = _checks.fraction("alpha_h", alpha_h), _checks.fraction("alpha_r", alpha_r)
    d1, d2 = (np.asarray(sign_pattern(n, fraction=share)) for n, share in ((M, alpha_h), (N, alpha_r)))
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

"""Wide networks: the spectrum on the solution manifold and the boundary of its stability, in closed form.

On the solution manifold of a two-layer linear network the eigenvalues off the manifold are those of −C (W1ᵀ D2 W1
+ g_p D1), with g_p the eigenvalues of W2 W2ᵀ. For M inputs, N hidden units and weights of variance σ1²/M and
σ2²/N, both going to infinity at fixed c = M/N, every g_p tends to σ2², and the spectrum of

    X = κ D1 + W1ᵀ D2 W1,     κ = σ2²/σ1²,

in units of σ1², tends to a law that depends only on c, κ and the fractions αh and αr of −1 in d1 and d2. Only the
first two moments of the weights matter. The manifold is stable while the law lies above 0; by Sylvester's law of
inertia this does not depend on the input covariance C, as long as C is nonsingular.
"""

from curlflow.random_matrix.density import spectral_cdf, spectral_density
from curlflow.random_matrix.edges import Atoms, Outlier, lowest_outlier, spectral_atoms, spectral_edges
from curlflow.random_matrix.finite_size import FiniteSizeMargin, finite_size_margin, instability_probability
from curlflow.random_matrix.stability import (
    InstabilityWindow,
    critical_alpha,
    instability_window,
    is_stable,
    stability_boundary,
    stability_margin,
)

__all__ = [
    "spectral_density",
    "spectral_cdf",
    "spectral_edges",
    "spectral_atoms",
    "Atoms",
    "lowest_outlier",
    "Outlier",
    "stability_margin",
    "is_stable",
    "stability_boundary",
    "instability_window",
    "InstabilityWindow",
    "critical_alpha",
    "finite_size_margin",
    "FiniteSizeMargin",
    "instability_probability",
]

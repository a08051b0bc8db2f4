"""Wide networks: the spectrum on the solution manifold and the boundary of its stability, in closed form.

On the solution manifold of a two-layer linear network the eigenvalues off the manifold are those of −C (W1ᵀ D2 W1
+ g_p D1), with g_p the eigenvalues of W2 W2ᵀ. For M inputs, N hidden units and weights of variance σ1²/M and
σ2²/N, both going to infinity at fixed c = M/N, every g_p tends to σ2², and the spectrum of

    X = κ D1 + W1ᵀ D2 W1,     κ = σ2²/σ1²,

in units of σ1², tends to a law that depends only on c, κ and the fractions αh and αr of −1 in d1 and d2. Only the
first two moments of the weights matter. The manifold is stable while the law lies above 0; by Sylvester's law of
inertia this does not depend on the input covariance C, as long as C is nonsingular.
"""

from curlflow.random_matrix.density import spectral_cdf as spectral_cdf
from curlflow.random_matrix.density import spectral_density as spectral_density
from curlflow.random_matrix.edges import Atoms as Atoms
from curlflow.random_matrix.edges import Outlier as Outlier
from curlflow.random_matrix.edges import lowest_outlier as lowest_outlier
from curlflow.random_matrix.edges import spectral_atoms as spectral_atoms
from curlflow.random_matrix.edges import spectral_edges as spectral_edges
from curlflow.random_matrix.finite_size import FiniteSizeMargin as FiniteSizeMargin
from curlflow.random_matrix.finite_size import finite_size_margin as finite_size_margin
from curlflow.random_matrix.finite_size import instability_probability as instability_probability
from curlflow.random_matrix.stability import InstabilityWindow as InstabilityWindow
from curlflow.random_matrix.stability import critical_alpha as critical_alpha
from curlflow.random_matrix.stability import instability_window as instability_window
from curlflow.random_matrix.stability import is_stable as is_stable
from curlflow.random_matrix.stability import stability_boundary as stability_boundary
from curlflow.random_matrix.stability import stability_margin as stability_margin

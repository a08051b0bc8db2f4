"""curlflow: the dynamical systems behind learning rules that do not follow a gradient.

The names used on the first day stand here; everything else is in the rooms, such as `curlflow.chaos` or `curlflow.plot`.
"""

from curlflow import (
    chaos,
    ensembles,
    fixed_points,
    gradient,
    manifold,
    models,
    orbits,
    plane,
    plot,
    races,
    random_matrix,
    sweeps,
)
from curlflow.chaos import LyapunovSpectrum, lyapunov_spectrum, verdict
from curlflow.fixed_points import (
    FixedPoint,
    classify,
    curl_fraction,
    find_fixed_points,
    jacobian,
    jacobian_operator,
    spectrum,
)
from curlflow.gradient import is_gradient
from curlflow.models import (
    CurlFlow,
    DescentMap,
    GramFlow,
    NormConstrained,
    SignedGradientFlow,
    Weights,
    toy_flow,
)
from curlflow.orbits import Trajectory, integrate, iterate
from curlflow.outcome import Ending, Outcome
from curlflow.plot import phase_portrait
from curlflow.random_matrix import is_stable, spectral_edges, stability_boundary
from curlflow.sweeps import sweep

__all__ = [
    "CurlFlow",
    "Weights",
    "SignedGradientFlow",
    "NormConstrained",
    "DescentMap",
    "GramFlow",
    "toy_flow",
    "integrate",
    "iterate",
    "Trajectory",
    "Outcome",
    "Ending",
    "jacobian",
    "jacobian_operator",
    "spectrum",
    "curl_fraction",
    "is_gradient",
    "classify",
    "FixedPoint",
    "find_fixed_points",
    "lyapunov_spectrum",
    "LyapunovSpectrum",
    "verdict",
    "stability_boundary",
    "spectral_edges",
    "is_stable",
    "phase_portrait",
    "sweep",
    "models",
    "ensembles",
    "orbits",
    "fixed_points",
    "chaos",
    "gradient",
    "manifold",
    "random_matrix",
    "plane",
    "races",
    "plot",
    "sweeps",
]

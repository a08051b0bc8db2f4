# The front door: what it holds and where that comes from. Read by type checkers, by editors, and by __init__.py.
from . import (
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
from .chaos import LyapunovSpectrum, lyapunov_spectrum, verdict
from .fixed_points import (
    FixedPoint,
    classify,
    curl_fraction,
    find_fixed_points,
    jacobian,
    jacobian_operator,
    spectrum,
)
from .gradient import is_gradient
from .models import (
    CurlFlow,
    DescentMap,
    GramFlow,
    NormConstrained,
    SignedGradientFlow,
    Weights,
    toy_flow,
)
from .orbits import Trajectory, integrate, iterate
from .outcome import Ending, Outcome
from .plot import phase_portrait
from .random_matrix import is_stable, spectral_edges, stability_boundary
from .sweeps import sweep

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

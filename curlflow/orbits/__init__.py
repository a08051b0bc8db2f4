"""One orbit: how it is computed, what is read off it while it runs or afterwards, and when it comes back."""

from curlflow.orbits.events import Event, Passages
from curlflow.orbits.integrate import integrate
from curlflow.orbits.iterate import iterate
from curlflow.orbits.pieces import Interrupted
from curlflow.orbits.returns import return_time, settling_time
from curlflow.orbits.series import (
    PrincipalComponents,
    autocorrelation,
    order_parameter,
    principal_components,
    time_to_threshold,
)
from curlflow.orbits.smooth import smooth
from curlflow.orbits.solvers import Dopri8, RungeKuttaChebyshev, Tsit5
from curlflow.orbits.streams import Drift, FirstPassage, OrderParameter, Peak, PredictionError
from curlflow.orbits.time_map import TimeMap
from curlflow.orbits.trajectory import Trajectory

__all__ = [
    "integrate",
    "iterate",
    "TimeMap",
    "Trajectory",
    "Event",
    "Passages",
    "Interrupted",
    "Tsit5",
    "Dopri8",
    "RungeKuttaChebyshev",
    "PredictionError",
    "OrderParameter",
    "Peak",
    "FirstPassage",
    "Drift",
    "PrincipalComponents",
    "autocorrelation",
    "order_parameter",
    "principal_components",
    "smooth",
    "time_to_threshold",
    "return_time",
    "settling_time",
]

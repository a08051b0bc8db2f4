"""Is it chaos? Lyapunov exponents with error bars, indicators that do not trust one number, and a verdict on them."""

from curlflow.chaos.engine.tangent_system import TangentSystem
from curlflow.chaos.gali import gali
from curlflow.chaos.growth import Growth, tangent_growth
from curlflow.chaos.lyapunov import lyapunov_spectrum
from curlflow.chaos.motion import Evidence, Motion, Verdict, verdict
from curlflow.chaos.recorded import zero_one_test
from curlflow.chaos.result import LyapunovEnsemble, LyapunovSpectrum
from curlflow.chaos.series_exponent import SeriesExponent, exponent_of_series
from curlflow.chaos.zeros import Zeros

__all__ = [
    "TangentSystem",
    "lyapunov_spectrum",
    "LyapunovSpectrum",
    "LyapunovEnsemble",
    "Zeros",
    "gali",
    "Growth",
    "tangent_growth",
    "zero_one_test",
    "exponent_of_series",
    "SeriesExponent",
    "Motion",
    "Evidence",
    "Verdict",
    "verdict",
]

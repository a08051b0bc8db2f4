"""Is it chaos? Lyapunov exponents with error bars, indicators that do not trust one number, and a verdict on them."""

from curlflow.chaos.indicators import Growth, exponent_of_series, gali, tangent_growth, zero_one_test
from curlflow.chaos.lyapunov import lyapunov_spectrum
from curlflow.chaos.motion import Motion, Verdict, verdict
from curlflow.chaos.result import LyapunovEnsemble, LyapunovSpectrum
from curlflow.chaos.zeros import Zeros

__all__ = [
    "lyapunov_spectrum",
    "LyapunovSpectrum",
    "LyapunovEnsemble",
    "Zeros",
    "Growth",
    "gali",
    "tangent_growth",
    "zero_one_test",
    "exponent_of_series",
    "Motion",
    "Verdict",
    "verdict",
]

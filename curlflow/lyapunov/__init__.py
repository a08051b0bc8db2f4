"""Lyapunov exponents of flows and maps, with error bars and their history."""

from curlflow.lyapunov.result import LyapunovEnsemble as LyapunovEnsemble
from curlflow.lyapunov.result import LyapunovSpectrum as LyapunovSpectrum
from curlflow.lyapunov.spectrum import lyapunov_spectrum as lyapunov_spectrum

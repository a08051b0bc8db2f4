"""Lyapunov exponents of flows and maps, with error bars and their history."""

from curlflow.lyapunov.reduction import NetworkSpectrum as NetworkSpectrum
from curlflow.lyapunov.reduction import network_spectrum as network_spectrum
from curlflow.lyapunov.reduction import unit_exponents as unit_exponents
from curlflow.lyapunov.result import LyapunovEnsemble as LyapunovEnsemble
from curlflow.lyapunov.result import LyapunovSpectrum as LyapunovSpectrum
from curlflow.lyapunov.spectrum import lyapunov_spectrum as lyapunov_spectrum

"""Stability of solutions of finite networks: exact spectra across the manifold, at the origin, of errors, of motion."""

from curlflow.manifold.across import TransverseSpectrum, transverse_spectrum
from curlflow.manifold.errors import ErrorSpectrum, error_spectrum
from curlflow.manifold.network import NetworkSpectrum, network_spectrum, unit_exponents
from curlflow.manifold.origin import OriginSpectrum, origin_spectrum
from curlflow.manifold.sampled import StabilitySample, sample_stability

__all__ = [
    "TransverseSpectrum",
    "transverse_spectrum",
    "OriginSpectrum",
    "origin_spectrum",
    "StabilitySample",
    "sample_stability",
    "ErrorSpectrum",
    "error_spectrum",
    "NetworkSpectrum",
    "network_spectrum",
    "unit_exponents",
]

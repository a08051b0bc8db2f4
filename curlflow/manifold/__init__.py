"""Stability of solutions of finite networks: exact spectra across the manifold, at the origin, of errors, of motion."""

from curlflow.manifold.across import (
    OriginSpectrum,
    StabilitySample,
    TransverseSpectrum,
    origin_spectrum,
    sample_stability,
    transverse_spectrum,
)
from curlflow.manifold.errors import ErrorSpectrum, error_spectrum
from curlflow.manifold.network import NetworkSpectrum, network_spectrum, unit_exponents

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

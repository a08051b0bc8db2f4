"""Beside a point: the linear approximation, fixed points found, and honest words for what they are."""

from curlflow.fixed_points.classify import FixedPoint, Kind, classify
from curlflow.fixed_points.find import FixedPoints, find_fixed_points
from curlflow.fixed_points.linearize import (
    Spectrum,
    curl_fraction,
    divergence,
    jacobian,
    jacobian_operator,
    spectrum,
)

__all__ = [
    "Spectrum",
    "jacobian",
    "jacobian_operator",
    "spectrum",
    "divergence",
    "curl_fraction",
    "FixedPoint",
    "Kind",
    "classify",
    "FixedPoints",
    "find_fixed_points",
]

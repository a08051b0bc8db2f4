"""Planes of a state space, and the survey of what a portrait in one of them shows."""

from curlflow.plane.planes import Plane, coordinate_plane, eigenplane, principal_plane
from curlflow.plane.survey import FixedCurve, Survey, survey

__all__ = [
    "Plane",
    "coordinate_plane",
    "eigenplane",
    "principal_plane",
    "Survey",
    "FixedCurve",
    "survey",
]

"""Fixed points: finding them, and saying honestly what they are."""

from curlflow.fixed_points.classify import FixedPoint as FixedPoint
from curlflow.fixed_points.classify import Kind as Kind
from curlflow.fixed_points.classify import classify as classify
from curlflow.fixed_points.find import FixedPoints as FixedPoints
from curlflow.fixed_points.find import find_fixed_points as find_fixed_points

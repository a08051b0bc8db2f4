"""Is a flow a gradient, in which metric, and how much of it: tests at points, and the split of a field in a plane."""

from curlflow.gradient.constant_metric import ConstantMetric
from curlflow.gradient.helmholtz import HelmholtzSplit, helmholtz_split
from curlflow.gradient.is_gradient import GradientTest, is_gradient

__all__ = [
    "GradientTest",
    "is_gradient",
    "ConstantMetric",
    "HelmholtzSplit",
    "helmholtz_split",
]

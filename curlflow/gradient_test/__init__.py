"""Whether a flow is a gradient flow: in the Euclidean metric, in a constant diagonal one, in any constant one."""

from curlflow.gradient_test.answer import GradientTest as GradientTest
from curlflow.gradient_test.answer import is_gradient as is_gradient
from curlflow.gradient_test.constant import ConstantMetric as ConstantMetric

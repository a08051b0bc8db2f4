"""curlflow: the dynamical systems behind learning rules that do not follow a gradient."""

from curlflow import ensembles as ensembles
from curlflow.fixed_points import FixedPoint as FixedPoint
from curlflow.fixed_points import FixedPoints as FixedPoints
from curlflow.fixed_points import Kind as Kind
from curlflow.fixed_points import classify as classify
from curlflow.fixed_points import find_fixed_points as find_fixed_points
from curlflow.flows import CurlFlow as CurlFlow
from curlflow.flows import NormConstrained as NormConstrained
from curlflow.flows import SignedGradientFlow as SignedGradientFlow
from curlflow.flows import ToyFlow as ToyFlow
from curlflow.flows import Weights as Weights
from curlflow.flows import toy_flow as toy_flow
from curlflow.gradient_test import GradientTest as GradientTest
from curlflow.gradient_test import is_gradient as is_gradient
from curlflow.integrate import integrate as integrate
from curlflow.linearize import Spectrum as Spectrum
from curlflow.linearize import curl_fraction as curl_fraction
from curlflow.linearize import divergence as divergence
from curlflow.linearize import jacobian as jacobian
from curlflow.linearize import jacobian_operator as jacobian_operator
from curlflow.linearize import spectrum as spectrum
from curlflow.outcome import Ending as Ending
from curlflow.outcome import Outcome as Outcome
from curlflow.trajectory import Trajectory as Trajectory

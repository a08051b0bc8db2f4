"""curlflow: the dynamical systems behind learning rules that do not follow a gradient."""

from curlflow import ensembles as ensembles
from curlflow.flows import CurlFlow as CurlFlow
from curlflow.flows import NormConstrained as NormConstrained
from curlflow.flows import SignedGradientFlow as SignedGradientFlow
from curlflow.flows import ToyFlow as ToyFlow
from curlflow.flows import Weights as Weights
from curlflow.flows import toy_flow as toy_flow
from curlflow.integrate import integrate as integrate
from curlflow.outcome import Ending as Ending
from curlflow.outcome import Outcome as Outcome
from curlflow.trajectory import Trajectory as Trajectory

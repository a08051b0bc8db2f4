"""What moves: vector fields f(t, y, args) over pytrees, one final `equinox.Module` per file."""

from curlflow.flows.constrained import NormConstrained as NormConstrained
from curlflow.flows.curl import CurlFlow as CurlFlow
from curlflow.flows.curl import Weights as Weights
from curlflow.flows.descent import DescentMap as DescentMap
from curlflow.flows.descent import MinibatchDescent as MinibatchDescent
from curlflow.flows.fast_neurons import FastNeurons as FastNeurons
from curlflow.flows.fast_neurons import NetworkState as NetworkState
from curlflow.flows.gram import Gram as Gram
from curlflow.flows.gram import GramFlow as GramFlow
from curlflow.flows.hebbian import HebbianFlow as HebbianFlow
from curlflow.flows.hebbian import SymmetricWeights as SymmetricWeights
from curlflow.flows.population import PopulationLoss as PopulationLoss
from curlflow.flows.signed import SignedGradientFlow as SignedGradientFlow
from curlflow.flows.similarity_matching import CircuitWeights as CircuitWeights
from curlflow.flows.similarity_matching import SimilarityMatching as SimilarityMatching
from curlflow.flows.student_teacher import StudentFlow as StudentFlow
from curlflow.flows.student_teacher import Teacher as Teacher
from curlflow.flows.toy import ToyFlow as ToyFlow
from curlflow.flows.toy import toy_flow as toy_flow

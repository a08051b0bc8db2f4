"""What learns: vector fields f(t, y, args) and maps over pytrees, one final `equinox.Module` per file."""

from curlflow.models.constrained import NormConstrained
from curlflow.models.curl import CurlFlow, Weights
from curlflow.models.descent import DescentMap, MinibatchDescent
from curlflow.models.fast_neurons import FastNeurons, NetworkState
from curlflow.models.gram import Gram, GramFlow
from curlflow.models.hebbian import HebbianFlow, SymmetricWeights
from curlflow.models.layers import Layer
from curlflow.models.population import PopulationLoss
from curlflow.models.signed import SignedGradientFlow
from curlflow.models.similarity_matching import CircuitWeights, SimilarityMatching
from curlflow.models.student import StudentFlow
from curlflow.models.teacher import Teacher
from curlflow.models.toy import ToyFlow, toy_flow

__all__ = [
    "CurlFlow",
    "Weights",
    "Layer",
    "ToyFlow",
    "toy_flow",
    "SignedGradientFlow",
    "NormConstrained",
    "Gram",
    "GramFlow",
    "DescentMap",
    "MinibatchDescent",
    "StudentFlow",
    "Teacher",
    "PopulationLoss",
    "HebbianFlow",
    "SymmetricWeights",
    "CircuitWeights",
    "SimilarityMatching",
    "FastNeurons",
    "NetworkState",
]

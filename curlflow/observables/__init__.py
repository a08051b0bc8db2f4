"""Quantities read off orbits: while they run (`streams`), from recorded series (`series`), and times on them (`orbits`)."""

from curlflow.observables.orbits import return_time as return_time
from curlflow.observables.orbits import settling_time as settling_time
from curlflow.observables.series import PrincipalComponents as PrincipalComponents
from curlflow.observables.series import autocorrelation as autocorrelation
from curlflow.observables.series import order_parameter as order_parameter
from curlflow.observables.series import principal_components as principal_components
from curlflow.observables.series import time_to_threshold as time_to_threshold
from curlflow.observables.streams import Drift as Drift
from curlflow.observables.streams import FirstPassage as FirstPassage
from curlflow.observables.streams import OrderParameter as OrderParameter
from curlflow.observables.streams import Peak as Peak
from curlflow.observables.streams import PredictionError as PredictionError

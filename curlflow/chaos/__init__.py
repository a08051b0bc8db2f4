"""Is it chaos? Indicators that do not trust one number, and a verdict that says on what evidence it rests.

`indicators` holds what looks for chaos, `returns` asks whether an orbit closes, and `motion` weighs them.
"""

from curlflow.chaos.indicators import Growth as Growth
from curlflow.chaos.indicators import exponent_of_series as exponent_of_series
from curlflow.chaos.indicators import gali as gali
from curlflow.chaos.indicators import tangent_growth as tangent_growth
from curlflow.chaos.indicators import zero_one_test as zero_one_test
from curlflow.chaos.motion import Motion as Motion
from curlflow.chaos.motion import Verdict as Verdict
from curlflow.chaos.motion import verdict as verdict

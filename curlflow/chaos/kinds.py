"""The kinds of motion that an orbit can settle to, and what an indicator finds of them."""

from enum import StrEnum

from curlflow._results import result


class Motion(StrEnum):
    """What kind of motion an orbit settles to."""

    CHAOTIC = "chaotic"
    TRANSIENT_CHAOS = "transient chaos"
    QUASI_PERIODIC = "quasi-periodic"
    PERIODIC = "periodic"
    FIXED_POINT = "fixed point"
    BLOW_UP = "blow-up"
    UNDECIDED = "undecided"


@result
class Evidence:
    """What one indicator found; part of a `Verdict`.

    Attributes
    ----------
    indicator
        Its name, e.g. "0–1 test".
    value
        What it measured; NaN where it could measure nothing.
    threshold
        The number that the value is held against; NaN where there is none.
    sentence
        Both in words.
    """

    indicator: str
    value: float
    threshold: float
    sentence: str

    def __str__(self) -> str:
        return f"Evidence: {self.sentence}"

"""The tangent system: a state and its tangent vectors go forward together, with one QR factorisation per interval."""

"""What is imported when it is first used: most computations do without it, and each takes its time."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__all__ = ["_checks", "jax", "np", "xr"]


class _Later:
    """A module that is imported when it is first asked for something.

    Nothing stands in `sys.modules` for it until then, as it does with the standard library's LazyLoader, which threads that
    import at the same time may find half done.
    """

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)


if TYPE_CHECKING:
    import jax
    import numpy as np
    import xarray as xr

    from curlflow import _checks
else:
    jax, np, xr, _checks = map(_Later, ("jax", "numpy", "xarray", "curlflow._checks"))

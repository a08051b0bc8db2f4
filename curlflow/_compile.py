"""How large programs are compiled."""

import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.tree_util as jtu
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# What the compiler cannot put into one kernel: calls of libraries, and what it may turn into such calls.
LIBRARY_CALLS = re.compile(
    r"\b(custom_call|dot_general|convolution|fft|scatter|sort|top_k|infeed|outfeed|all_\w+|collective_\w+)\b"
)


def compiled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """`equinox.filter_jit` for solvers and other large programs, with the settings that make XLA's CPU compiler fastest.

    Without its newer fusion emitters a solve compiles in 60 % of the time, and runs no slower. Vectors as wide as the
    processor has make ensembles a seventh faster.
    """
    options = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_prefer_vector_width": 512}
    return eqx.filter_jit(function, compiler_options=options)  # pyright: ignore[reportCallIssue]


def apart(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`, compiled by itself: the arguments are written to memory first, and so is the result.

    Otherwise the compiler fuses large loops with those that made their arguments, into what it cannot vectorise.
    """

    def inner(*args: Any) -> Any:
        with set_xla_metadata(inlineable=None):
            return function(*args)

    with set_xla_metadata(inlineable="false"):
        return jax.jit(inner)(*args)


def in_one_kernel(function: Callable[[Any], Any], argument: Any) -> Any:
    """`function(argument)` for a loop over small arrays, as one kernel where it has no library calls in it.

    XLA's CPU runtime takes about 50 ns to start each of a loop's kernels, several times what a small one takes to run.
    The compiler makes one kernel of loops which access less than 1 kB, and does the same for a call with this mark.
    """
    closed, result = jax.make_jaxpr(function, return_shape=True)(argument)
    captured = len(closed.consts)

    def inner(*flat: Any) -> Any:
        with set_xla_metadata(inlineable=None, xla_cpu_small_call=None):
            values = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, flat[:captured]))(*flat[captured:])
            # A kernel must use all its arguments. Handed through, even one that the compiler finds superfluous is used.
            return values, jax.lax.optimization_barrier(flat)

    flat = (*closed.consts, *jtu.tree_leaves(argument))
    if LIBRARY_CALLS.search(jax.jit(inner).lower(*flat).as_text()):
        return function(argument)
    with set_xla_metadata(inlineable="false", xla_cpu_small_call="true"):
        values, _ = jax.lax.optimization_barrier(jax.jit(inner)(*flat))
    return jtu.tree_unflatten(jtu.tree_structure(result), values)

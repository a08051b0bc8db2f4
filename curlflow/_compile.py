"""How large programs are compiled."""

import math
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import equinox as eqx
import jax
import jax.tree_util as jtu
from jax.core import Tracer
from jax.experimental.xla_metadata import set_xla_metadata
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

# What the compiler cannot put into one kernel: calls of libraries, and what it may turn into such calls.
LIBRARY_CALLS = re.compile(
    r"\b(custom_call|dot_general|convolution|fft|\w*scatter|sort|top_k|cholesky|triangular_solve|infeed|outfeed|all_\w+|"
    r"collective_\w+)\b"
)
# Nor large arrays, if they are constants: XLA ends the process where a kernel of this kind is to hold a constant of more than
# 10 000 bytes (XLA of jaxlib 0.7.2 to 0.10.2). It makes constants of whatever does not depend on the arguments.
LARGEST_CONSTANT = 8000
# In the text of a program: the types of arrays, and the operations that hand on their operands and make no new array.
ARRAY_TYPE = re.compile(r"tensor<((?:\d+x)*)(complex<)?[a-z]+(\d+)")
HANDS_ON = re.compile(r"stablehlo\.(while|case|if|optimization_barrier)|func\.|call @|\breturn\b")


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
    """`function(argument)` for a loop over small arrays, as one kernel where it has no library calls or large arrays in it.

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
    if _has_large_constants(closed) or not _fits_into_a_kernel(jax.jit(inner).lower(*flat).as_text()):
        return function(argument)
    with set_xla_metadata(inlineable="false", xla_cpu_small_call="true"):
        values, _ = jax.lax.optimization_barrier(jax.jit(inner)(*flat))
    return jtu.tree_unflatten(jtu.tree_structure(result), values)


def _fits_into_a_kernel(program: str) -> bool:
    """Whether a program, as text, has no library call in it and makes no array that would be too large for a constant.

    Its arguments may be of any size, and are handed on as they are.
    """
    made = (line for line in program.splitlines() if not HANDS_ON.search(line))
    return not LIBRARY_CALLS.search(program) and all(_largest(line) <= LARGEST_CONSTANT for line in made)


def _largest(line: str) -> int:
    """The bytes of the largest array that an operation makes: behind the arrow, where its operands are named too."""
    return max((_bytes(*match) for match in ARRAY_TYPE.findall(line.rpartition("->")[2])), default=0)


def _bytes(shape: str, is_complex: str, bits: str) -> int:
    return math.prod(map(int, shape.split("x")[:-1])) * int(bits) * (2 if is_complex else 1) // 8


def _has_large_constants(closed: ClosedJaxpr) -> bool:
    """Whether the function that was traced closes over a large array whose values are known."""
    pairs = zip(closed.consts, closed.jaxpr.constvars, strict=True)
    known = [variable.aval for constant, variable in pairs if not isinstance(constant, Tracer)]
    return any(aval.size * aval.dtype.itemsize > LARGEST_CONSTANT for aval in known)

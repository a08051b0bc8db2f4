"""What goes through one kernel, and what must not, because XLA would end the process."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from curlflow import _compile
from curlflow._compile import compiled, in_one_kernel

# Every one of these fields closes over, or makes, an array too large for a constant of a kernel.
LARGE_CONSTANTS = """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, numpy as np
from curlflow._compile import compiled, in_one_kernel
u = jnp.sin(jnp.linspace(0, 1000, 2000))
inside = jax.jit(lambda t: u[jnp.floor(t).astype(int)])
table = {"a": np.arange(6000.0).reshape(2, 3000), "b": u + 1j * u}
fields = {
    "a table of integers": lambda t: (jnp.arange(3000) % 7)[jnp.floor(t).astype(int)],
    "a small table of bytes": lambda t: jnp.asarray(np.ones(12_000, np.int8))[jnp.floor(t).astype(int)],
    "a sum": lambda t: jnp.sum(u * jnp.sin(t)),
    "interpolation": lambda t: jnp.interp(t, jnp.linspace(0, 1000, 2000), u),
    "a gather": lambda t: u[jnp.floor(jnp.array([t, t + 1, t + 2])).astype(int)].sum(),
    "sorted": lambda t: jnp.sort(u * t)[jnp.floor(t).astype(int)],
    "closed over by an inner function": inside,
    "several": lambda t: table["a"][0, 5] + jnp.real(table["b"])[jnp.floor(t).astype(int)],
    "made on the way": lambda t: jnp.sum(jnp.cos(jnp.linspace(0, 1, 5000))),
    "in a loop": lambda t: jax.lax.fori_loop(0, 5, lambda i, x: x + u[i], t),
    "chosen": lambda t: jax.lax.cond(t > 1, lambda: u, lambda: -u)[3],
}

def after_seven_steps(field):
    body = lambda carry: (carry[0] + 1.0, 0.5 * carry[1] + field(carry[0]))
    return lambda start: in_one_kernel(lambda carry: jax.lax.while_loop(lambda c: c[0] < 7.0, body, carry), start)[1]

def by_hand(field):
    y = 1.0
    for t in range(7):
        y = 0.5 * y + field(jnp.asarray(float(t)))
    return y

start = (jnp.zeros(()), jnp.asarray(1.0))
found = compiled(lambda start: [after_seven_steps(field)(start) for field in fields.values()])(start)
np.testing.assert_allclose(found, [by_hand(field) for field in fields.values()], rtol=1e-12)
"""

# The damped linear oscillator has the exponents −0.1 twice, whatever drives it.
RECORDED_INPUT = """
import jax; jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp, numpy as np, curlflow as cf
u = jnp.sin(jnp.linspace(0, 1000, 2000))
oscillator = lambda t, y, args: jnp.stack([y[1], -y[0] - 0.2 * y[1] + jnp.interp(t, jnp.arange(2000.0), u)])
ls = cf.lyapunov_spectrum(oscillator, jnp.zeros(2), T=10 * np.pi / 0.99**0.5, dt=np.pi / 0.99**0.5)
np.testing.assert_allclose(ls.exponents, [-0.1, -0.1], atol=1e-6)
"""


@pytest.mark.parametrize(
    "code",
    [LARGE_CONSTANTS, pytest.param(RECORDED_INPUT, marks=pytest.mark.slow)],
    ids=["kernels", "a spectrum"],
)
def test_no_field_ends_the_process(code):
    package = Path(_compile.__file__).parents[1]
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=package
    )
    assert run.returncode == 0, run.stderr[-2000:]


def repeated(field, args):
    def body(carry):
        return carry[0] + 1, carry[1] * 0.9 + field(carry[0], args)

    return partial(jax.lax.while_loop, lambda carry: carry[0] < 20, body)


def is_one_kernel(field, args=None):
    def run(y, args):
        return in_one_kernel(repeated(field, args), (0, y))

    return "xla_cpu_small_call" in compiled(run).lower(jnp.ones(3), args).as_text()


@pytest.mark.parametrize("numbers", [50, 1000])
def test_a_small_constant_stays_in_the_kernel(numbers):
    table = jnp.arange(float(numbers))
    assert is_one_kernel(lambda n, args: table[n])
    y = compiled(lambda y: in_one_kernel(repeated(lambda n, args: table[n], None), (0, y)))(jnp.zeros(3))[1]
    np.testing.assert_allclose(y, np.sum(np.arange(20) * 0.9 ** np.arange(19, -1, -1)), rtol=1e-13)


def test_a_large_table_among_the_arguments_stays_in_the_kernel():
    table = jnp.arange(5000.0)
    assert is_one_kernel(lambda n, args: args[n], table)
    assert not is_one_kernel(lambda n, args: table[n])


def test_bytes_are_counted_by_kind():
    line = "    %3 = stablehlo.convert %2 : (tensor<9x9xf64>) -> tensor<"
    assert [
        _compile._largest(line + kind) for kind in ("2x500xf64>", "f64>", "7xi1>", "10xcomplex<f64>>")
    ] == [
        8000,
        8,
        0,
        160,
    ]
    assert _compile._largest("    %c = stablehlo.constant dense<[1, 2]> : tensor<2xi32>") == 8

"""Every test computes in float64, draws into memory, and has its array shapes checked at run time."""

import jax
import matplotlib as mpl
from hypothesis import settings
from jaxtyping import install_import_hook

jax.config.update("jax_enable_x64", True)
mpl.use("Agg")

# Shapes and dtypes in curlflow's annotations are checked on every call, so the import comes after the hook.
install_import_hook("curlflow", "beartype.beartype")

# The first example of a property compiles, and a compilation has no deadline. The same examples come every time, so
# that a failure is a change in the code; `pytest --hypothesis-profile=search` looks for new ones.
settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=30)
settings.register_profile("search", deadline=None, max_examples=500, print_blob=True)
settings.load_profile("fixed")

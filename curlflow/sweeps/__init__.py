"""A grid of parameters and seeds, computed cell by cell into a store on disk that survives whatever happens.

`run` is the verb, `grid` says which cells are computed together, `workers` computes them here or elsewhere and `answer`
checks what comes, `store` keeps it, `identity` knows a changed function, `recipe` reads a sweep from a TOML file.
"""

from curlflow.sweeps.run import sweep
from curlflow.sweeps.store import open_sweep

__all__ = [
    "sweep",
    "open_sweep",
]

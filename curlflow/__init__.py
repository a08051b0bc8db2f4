"""curlflow: the dynamical systems behind learning rules that do not follow a gradient.

The names used on the first day stand here; everything else is in the rooms, such as `curlflow.chaos` or `curlflow.plot`.
"""

import lazy_loader

# Names and rooms are listed in __init__.pyi, and imported when they are first asked for: to integrate an orbit takes no
# matplotlib, and `curlflow --help` no JAX.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

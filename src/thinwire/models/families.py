"""The registry of families of models.

A family is a module with ``dims``, ``param_axes``, ``forward`` and ``unembed`` as in ``llama``. A new one is one file
and one line here. (Not in the package's ``__init__``: strategies import ``models.dims``, and models import strategies.)
"""

from types import ModuleType

from thinwire.models import llama

FAMILIES: dict[str, ModuleType] = {"llama": llama}

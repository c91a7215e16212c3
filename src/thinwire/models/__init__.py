"""Transformers, each written once, and the registry of families.

A family is a module with ``dims``, ``param_axes``, ``forward`` and ``unembed`` as in ``llama``. A new one is one file
and one line here.
"""

from types import ModuleType

from thinwire.models import llama

FAMILIES: dict[str, ModuleType] = {"llama": llama}

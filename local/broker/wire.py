"""google.pubsub_v1's message types without the client library around them.

`import google.pubsub_v1` runs the package's `__init__`, which loads every client, transport and google-auth: 0.7 s and
50 MB that a server has no use for. Its `types` subpackage needs none of it, so it is imported with the parent package
present but not executed; a later `import google.pubsub_v1` in the same process runs as ever and finds the same classes.
"""

import importlib
import sys
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.pubsub_v1 import types
else:

    def _light_types():
        package = "google.pubsub_v1"
        if package in sys.modules:
            return importlib.import_module(f"{package}.types")
        spec = find_spec(package)
        if spec is None:
            raise ModuleNotFoundError(f"{package} is missing: install google-cloud-pubsub", name=package)
        sys.modules[package] = module_from_spec(spec)
        try:
            return importlib.import_module(f"{package}.types")
        finally:
            del sys.modules[package]

    types = _light_types()

__all__ = ["types"]

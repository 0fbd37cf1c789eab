"""The engine as machine code: compiled once (about 20 s), then read in a tenth of a second."""

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class EngineMissing(Exception):
    """The engine cannot be used here; the message says why, and what to do."""


def kept_path() -> Path:
    """Where the machine code is kept: in the virtual environment, for the wheels that it has.

    Raises:
        EngineMissing: the wheels are not installed.
    """
    try:
        wheels = f"zetasql-{version('zetasql')}-wasmtime-{version('wasmtime')}"
    except PackageNotFoundError as missing:
        raise EngineMissing(f"{missing.name} is not installed (it comes with `make setup`)") from missing
    return Path(sys.prefix) / "share" / "googlesql" / f"{wheels}.cwasm"


def read(engine: Any) -> Any:
    """Read the machine code.

    Args:
        engine: wasmtime's.

    Raises:
        EngineMissing: it was not compiled, or for another machine.
    """
    from wasmtime import Module, WasmtimeError

    kept = kept_path()
    if not kept.exists():
        raise EngineMissing("it is not compiled yet: python -m local.googlesql")
    try:
        return Module.deserialize_file(engine, str(kept))
    except WasmtimeError as error:
        raise EngineMissing(f"{kept.name} is of no use here ({error}): python -m local.googlesql") from error


def compile_once(*, anew: bool = False) -> bool:
    """Compile the engine if it is not there; True when it was compiled now.

    Several processes may do so at the same time: a finished file is moved into its place.

    Raises:
        EngineMissing: the wheels are not installed.
    """
    kept = kept_path()
    if kept.exists() and not anew:
        return False
    from wasmtime import Module

    from local.googlesql.engine import new_engine

    code = Module.from_file(new_engine(), str(_webassembly())).serialize()
    kept.parent.mkdir(parents=True, exist_ok=True)
    unfinished = kept.with_suffix(f".{os.getpid()}")
    unfinished.write_bytes(code)
    unfinished.replace(kept)
    return True


def _webassembly() -> Path:
    # Without an import of the package itself, which starts an engine of its own.
    spec = find_spec("zetasql")
    if spec is None or spec.origin is None:
        raise EngineMissing("zetasql is not installed (it comes with `make setup`)")
    return Path(spec.origin).parent / "wasi" / "zetasql.wasm"

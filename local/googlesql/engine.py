"""One instance of the engine, and how it is called: a protocol buffer in, one out."""

import ctypes
import re
import threading
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from local.googlesql import compiled


class Refused(Exception):
    """The engine refuses a statement, or cannot evaluate it; the message is GoogleSQL's own."""


class NoAnswer(Exception):
    """The engine itself failed: a fault of it, not of the statement."""


def new_engine() -> Any:
    """Return wasmtime's engine with what the WebAssembly needs: it was made with threads."""
    from wasmtime import Config, Engine

    config = Config()
    config.shared_memory = True
    return Engine(config)


class Instance:
    """The engine, running. Calls from several threads come one after the other."""

    def __init__(self) -> None:
        """Start the engine.

        Raises:
            EngineMissing: the wheels are not installed, or the engine is not compiled.
        """
        compiled.kept_path()
        from wasmtime import Linker, Store, WasiConfig

        self._lock = threading.Lock()
        engine = new_engine()
        module = compiled.read(engine)
        self._store = Store(engine)
        wasi = WasiConfig()
        wasi.inherit_stderr()
        wasi.preopen_dir(str(Path(str(files("tzdata"))) / "zoneinfo"), "/usr/share/zoneinfo")
        self._store.set_wasi(wasi)
        linker = Linker(engine)
        linker.define_wasi()
        # Of what a WebAssembly exports, wasmtime's types say only that it is something.
        self._exports = cast(Any, linker.instantiate(self._store, module).exports(self._store))
        if "_initialize" in self._exports:
            self._exports["_initialize"](self._store)
        self._memory = self._exports["memory"]

    def call(self, method: str, request: Any, response: Any) -> Any:
        """Call a method of GoogleSQL's local service.

        Args:
            method: its name.
            request: its request, a protocol buffer.
            response: the class of its response.

        Raises:
            Refused: the engine says no.
            NoAnswer: the engine broke off.
        """
        from wasmtime import Trap, WasmtimeError

        try:
            with self._lock:
                answer = self._call(method, request.SerializeToString())
        except (Trap, WasmtimeError) as error:
            raise NoAnswer(f"{method}: {error}") from error
        return response.FromString(answer)

    def _call(self, method: str, request: bytes) -> bytes:
        exports, store = self._exports, self._store
        pointer = exports["wasm_malloc"](store, max(len(request), 1))
        size_at = exports["wasm_malloc"](store, 4)
        try:
            ctypes.memmove(self._base() + pointer, request, len(request))
            answer = exports[f"ZetaSqlLocalService_{method}"](store, pointer, len(request), size_at)
            if not answer:
                size = exports["wasm_get_last_error_size"](store)
                words = self._read(exports["wasm_get_last_error"](store), size).decode() if size else ""
                raise Refused(re.sub(r"^Code: \d+, Message: ", "", words))
            content = self._read(answer, int.from_bytes(self._read(size_at, 4), "little"))
            exports["wasm_free"](store, answer)
            return content
        finally:
            exports["wasm_free"](store, pointer)
            exports["wasm_free"](store, size_at)

    def _base(self) -> int:
        # Asked for each time: the memory may have moved when it grew.
        return ctypes.addressof(self._memory.data_ptr().contents)

    def _read(self, pointer: int, size: int) -> bytes:
        return ctypes.string_at(self._base() + pointer, size)

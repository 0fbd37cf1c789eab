"""An HTTP reverse proxy on the loopback that lets things go wrong, in front of the bucket or the warehouse.

What no fault is for passes through as it is, in both directions: chunked bodies, ranges, answers without a body. Only
``Location`` is rewritten to lead back through the proxy, so that the chunks of a resumable upload pass it too.
"""

import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from local.stack.ports import HOST

PIECE_BYTES = 64 * 1024
UPSTREAM_SECONDS = 120.0
NEVER_ENDING = 10**9

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "host"}
)
_REASONS = {
    400: ("invalid", "INVALID_ARGUMENT"),
    403: ("forbidden", "PERMISSION_DENIED"),
    404: ("notFound", "NOT_FOUND"),
    429: ("rateLimitExceeded", "RESOURCE_EXHAUSTED"),
    500: ("internalError", "INTERNAL"),
    503: ("backendError", "UNAVAILABLE"),
}


class Action(StrEnum):
    """What goes wrong with a request."""

    ANSWER = "answer"
    """The proxy answers an error; the server never hears of the request."""
    HANG = "hang"
    """Nothing happens for a while, or until it is released; then the request is forwarded."""
    CLOSE = "close"
    """The connection is closed without an answer; the server never hears of the request."""
    CUT_REQUEST = "cut request"
    """The connection is closed when half of the request's body has come; the server gets that half."""
    LOSE_ANSWER = "lose answer"
    """The server does what is asked, and the connection is closed instead of its answer."""
    CUT_ANSWER = "cut answer"
    """The connection is closed after half of the answer's body."""
    LOSE_AND_KEEP = "lose and keep answer"
    """As LOSE_ANSWER, and the next request to the same path gets the answer that was lost, as Google Cloud Storage
    answers a client that sends the end of a complete upload again (fake-gcs-server has forgotten the upload)."""
    EDIT = "edit"
    """The request is forwarded, and the answer's body changed."""


@dataclass
class Fault:
    """What to do to the next requests that match.

    Attributes:
        method: regular expression; the whole method must match.
        path: regular expression; found anywhere in the path with its query.
        action: what to do.
        times: to how many requests.
        after: how many requests that match pass before the first.
        status: of ANSWER.
        reason: of ANSWER, as Google tells it; that which goes with the status, if none is given.
        seconds: of HANG.
        edit: of EDIT.
        contains: what the request's body must hold, in lower case.
        reached: set when the first request has met the fault.
        released: set by whoever wants HANG to go on at once.
        done: how many requests met the fault.
    """

    method: str
    path: str
    action: Action
    times: int = 1
    after: int = 0
    status: int = 503
    reason: str | None = None
    seconds: float = 60.0
    edit: Callable[[bytes], bytes] | None = None
    contains: bytes = b""
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    done: int = 0

    def fits(self, method: str, path: str) -> bool:
        """Whether a request's first line is that of those that the fault is for."""
        return re.fullmatch(self.method, method) is not None and re.search(self.path, path) is not None

    def matches(self, method: str, path: str, body: bytes) -> bool:
        """Whether a request is one of those that the fault is for; the body counts only where something is asked."""
        return self.fits(method, path) and self.contains in body.lower()


@dataclass(frozen=True)
class Seen:
    """A request that came to the proxy."""

    method: str
    path: str
    action: Action | None
    """What was done to it; None when it passed."""


@dataclass(frozen=True)
class HTTPAnswer:
    """An answer, read to its end."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def google_error(status: int, reason: str | None = None) -> bytes:
    """An error as Google's JSON interfaces tell it, with the usual reason of its status or another."""
    usual, name = _REASONS.get(status, ("backendError", "UNKNOWN"))
    reason = reason or usual
    message = f"injected {status}"
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return json.dumps({"error": {"code": status, "message": message, "errors": errors, "status": name}}).encode()


class FaultProxy:
    """The proxy; a context manager that serves inside its block."""

    def __init__(self, upstream: str) -> None:
        """Stand in front of a server.

        Args:
            upstream: its address, ``http://host:port``.
        """
        parts = urlsplit(upstream)
        if parts.scheme != "http" or parts.hostname is None or parts.port is None:
            raise ValueError(f"not an address like http://host:port: {upstream}")
        self.upstream = f"http://{parts.netloc}"
        self.upstream_host, self.upstream_port = parts.hostname, parts.port
        self.seen: list[Seen] = []
        self.kept: dict[str, HTTPAnswer] = {}
        """Answers that were lost, by the path of the request that will get them."""
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server = _Server((HOST, 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="fault-proxy", daemon=True
        )

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        return f"http://{HOST}:{self._server.server_address[1]}"

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()
        self._server.shutdown()
        self._thread.join()
        self._server.end_connections()
        self._server.server_close()

    def add(self, fault: Fault) -> Fault:
        """Let something go wrong from now on; faults that were added before come first."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def answer(self, method: str, path: str, status: int = 503, times: int = 1, after: int = 0) -> Fault:
        """Answer an error with Google's body."""
        return self.add(Fault(method, path, Action.ANSWER, times, after, status=status))

    def edit(self, method: str, path: str, change: Callable[[Any], Any], times: int = 1) -> Fault:
        """Change the JSON document of the answer."""
        return self.add(
            Fault(method, path, Action.EDIT, times, edit=lambda body: json.dumps(change(json.loads(body))).encode())
        )

    def clear(self) -> None:
        """Forget all faults, and let go of what hangs."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.released.set()

    @contextmanager
    def only(self, *faults: Fault) -> Iterator[None]:
        """Have these faults for a block; each must have happened when it ends."""
        for fault in faults:
            self.add(fault)
        try:
            yield
            missing = [f"{fault.action} {fault.method} {fault.path}" for fault in faults if not fault.done]
            assert not missing, f"these faults did not happen: {missing}; seen: {self.seen[-20:]}"
        finally:
            self.clear()

    def counts(self) -> Counter[str]:
        """How often each thing was done; ``passed`` counts the rest."""
        with self._lock:
            return Counter(seen.action.value if seen.action else "passed" for seen in self.seen)

    def asks_for_bodies(self, method: str, path: str) -> bool:
        """Whether a fault cannot be chosen without the request's body."""
        with self._lock:
            return any(fault.contains and fault.fits(method, path) for fault in self._faults)

    def fault_for(self, method: str, path: str, body: bytes = b"") -> Fault | None:
        """The fault that a request meets, noted."""
        with self._lock:
            chosen = self._chosen(method, path, body)
            self.seen.append(Seen(method, path, chosen.action if chosen else None))
        if chosen is not None:
            chosen.reached.set()
        return chosen

    def _chosen(self, method: str, path: str, body: bytes) -> Fault | None:
        for fault in self._faults:
            if fault.done < fault.times and fault.matches(method, path, body):
                if fault.after:
                    fault.after -= 1
                    continue
                fault.done += 1
                return fault
        return None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    proxy: FaultProxy

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._connections: set[socket.socket] = set()
        self._mutex = threading.Lock()
        super().__init__(address, handler)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._mutex:
            self._connections.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._mutex:
                self._connections.discard(request)

    def end_connections(self) -> None:
        """Break off what clients keep alive."""
        with self._mutex:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that went away is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        """Handle any method, not only those that have a function of their own."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        self._handle()
        with suppress(OSError, ValueError):
            self.wfile.flush()

    def _handle(self) -> None:
        proxy = self.server.proxy
        self._read: bytes | None = None
        if proxy.asks_for_bodies(self.command, self.path) and not self._chunked:
            self._read = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = proxy.fault_for(self.command, self.path, self._read or b"")
        action = fault.action if fault else None
        if action is Action.CLOSE:
            self._drain()
            self._break_off()
        elif fault is not None and action is Action.ANSWER:
            self._drain()
            self._answer(fault.status, [("Content-Type", "application/json")], google_error(fault.status, fault.reason))
        elif (kept := proxy.kept.pop(self.path, None)) is not None:
            self._drain()
            self._answer(kept.status, kept.headers, kept.body)
        else:
            if fault is not None and action is Action.HANG:
                fault.released.wait(fault.seconds)
            self._forward(proxy, fault)

    def _break_off(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _drain(self) -> None:
        for _ in self._body():
            pass

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP and name.lower() != "content-length":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @property
    def _chunked(self) -> bool:
        return "chunked" in (self.headers.get("Transfer-Encoding") or "").lower()

    def _body(self) -> Iterator[bytes]:
        """The request's body, piece by piece."""
        if self._read is not None:
            yield self._read
            return
        if not self._chunked:
            left = int(self.headers.get("Content-Length") or 0)
            while left and (piece := self.rfile.read(min(left, PIECE_BYTES))):
                left -= len(piece)
                yield piece
            return
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers

    def _forward(self, proxy: FaultProxy, fault: Fault | None) -> None:
        upstream = HTTPConnection(proxy.upstream_host, proxy.upstream_port, timeout=UPSTREAM_SECONDS)
        try:
            if not self._send(upstream, fault):
                self._break_off()
                return
            answer = upstream.getresponse()
            if fault is not None and fault.action in (Action.LOSE_ANSWER, Action.LOSE_AND_KEEP):
                lost = HTTPAnswer(answer.status, answer.getheaders(), answer.read())
                if fault.action is Action.LOSE_AND_KEEP:
                    proxy.kept[self.path] = lost
                self._break_off()
            else:
                self._give(answer, fault, proxy)
        except (OSError, HTTPException):
            self._break_off()  # the server is not there, or went away: so does the proxy
        finally:
            upstream.close()

    def _send(self, upstream: HTTPConnection, fault: Fault | None) -> bool:
        """Send the request on; False when it was cut."""
        cut = fault is not None and fault.action is Action.CUT_REQUEST
        upstream.putrequest(self.command, self.path, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _HOP_BY_HOP and name.lower() != "expect":
                upstream.putheader(name, value)
        if self._chunked:
            upstream.putheader("Transfer-Encoding", "chunked")
        upstream.endheaders()
        half = max(1, int(self.headers.get("Content-Length") or 0) // 2) if cut else NEVER_ENDING
        for piece in self._body():
            sent = piece[:half]
            upstream.send(b"%x\r\n%b\r\n" % (len(sent), sent) if self._chunked else sent)
            half -= len(sent)
            if half <= 0:
                return False
        if cut:
            return False
        if self._chunked:
            upstream.send(b"0\r\n\r\n")
        return True

    def _give(self, answer: HTTPResponse, fault: Fault | None, proxy: FaultProxy) -> None:
        bodiless = self.command == "HEAD" or answer.status in (204, 304) or 100 <= answer.status < 200
        edited = cut = None
        if fault is not None and fault.action is Action.EDIT and fault.edit is not None:
            edited = fault.edit(answer.read())
        elif fault is not None and fault.action is Action.CUT_ANSWER:
            cut = answer.read()
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            lower = name.lower()
            if lower in _HOP_BY_HOP or (lower == "content-length" and edited is not None):
                continue
            self.send_header(name, value.replace(proxy.upstream, proxy.url) if lower == "location" else value)
        if edited is not None:
            self.send_header("Content-Length", str(len(edited)))
            self.end_headers()
            self.wfile.write(edited)
        elif cut is not None:
            if answer.getheader("Content-Length") is None:
                self.send_header("Content-Length", str(len(cut)))
            self.end_headers()
            self.wfile.write(cut[: len(cut) // 2])
            self._break_off()
        elif bodiless:
            self.end_headers()
        elif answer.getheader("Content-Length") is not None:
            self.end_headers()
            while piece := answer.read(PIECE_BYTES):
                self.wfile.write(piece)
        else:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while piece := answer.read1(PIECE_BYTES):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")

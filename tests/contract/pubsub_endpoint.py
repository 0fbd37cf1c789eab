"""A push endpoint that remembers what it was sent and answers as a test says."""

import base64
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Push:
    """One request; `at` is seconds of the monotonic clock."""

    at: float
    body: dict[str, Any]
    content_type: str

    @property
    def data(self) -> str:
        return base64.b64decode(self.body["message"]["data"]).decode()


class PushEndpoint:
    """An HTTP server on a port of its own; `answer` maps a request to a status and may take its time."""

    def __init__(self, answer: Callable[[Push], int] = lambda _push: 200, port: int = 0) -> None:
        self.pushes: list[Push] = []
        self._arrived = threading.Condition()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                push = Push(time.monotonic(), body, self.headers["Content-Type"])
                with endpoint._arrived:
                    endpoint.pushes.append(push)
                    endpoint._arrived.notify_all()
                self.send_response(answer(push))
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Keep the test output clean."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A sender that no longer waits for the answer is part of the tests."""

        self._server = Server(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/push"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait(self, count: int, timeout: float = 10.0) -> list[Push]:
        """Wait for that many requests and return all there are."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: len(self.pushes) >= count, timeout)
            assert arrived, (
                f"{len(self.pushes)} of {count} pushes within {timeout} s: {[it.data for it in self.pushes]}"
            )
            return list(self.pushes)

    def stays_at(self, count: int, seconds: float = 0.3) -> None:
        """Assert that no request comes beyond that many."""
        with self._arrived:
            more = self._arrived.wait_for(lambda: len(self.pushes) > count, seconds)
            assert not more, f"{len(self.pushes)} pushes instead of {count}: {[it.data for it in self.pushes]}"

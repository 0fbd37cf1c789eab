"""A gRPC proxy on the loopback that loses answers, in front of Google's Firestore emulator.

What passes is passed as bytes, as it is. A write may be done without an answer, refused for contention, or come twice,
as it does when a client repeats what it thinks was lost. A read may break off, also in its middle.
"""

import random
import threading
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

import grpc

from local.stack.ports import HOST

_COMMIT = "/google.firestore.v1.Firestore/Commit"
_THREADS = 16


class Outcome(StrEnum):
    """What becomes of a call."""

    PASSES = "passes"
    LOST = "done, the answer lost"
    TWICE = "done twice, the second answered"
    ABORTED = "refused for contention"
    BROKEN = "broken off"


_LOSSES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL)
_WRITES = {Outcome.PASSES: 60, Outcome.LOST: 20, Outcome.TWICE: 10, Outcome.ABORTED: 10}
_READS = {Outcome.PASSES: 90, Outcome.BROKEN: 10}


class LossyFirestore(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """The proxy's handler of every call; what happens is drawn, or said before."""

    def __init__(self, upstream: str, seed: int) -> None:
        self._channel = grpc.insecure_channel(upstream)
        self._random = random.Random(seed)  # noqa: S311 - reproducible, not secret
        self._lock = threading.Lock()
        self.said: deque[Outcome] = deque()
        """What becomes of the next writes; when it is empty, it is drawn."""
        self.seen: Counter[str] = Counter()

    def _outcome(self, method: str) -> Outcome:
        with self._lock:
            if method == _COMMIT and self.said:
                chosen = self.said.popleft()
            else:
                odds = _WRITES if method == _COMMIT else _READS
                [chosen] = self._random.choices(list(odds), list(odds.values()))
            self.seen[f"{method.rsplit('/', 1)[-1]} {chosen}"] += 1
            return chosen

    def service(self, details: Any) -> Any:
        """Handle a call: a stream of answers may have just one."""
        metadata = [(k, v) for k, v in details.invocation_metadata if not k.startswith(("user-agent", "grpc-"))]
        forward = self._channel.unary_stream(details.method)

        def answer(request: bytes, context: Any) -> Iterator[bytes]:
            outcome = self._outcome(details.method)
            if outcome is Outcome.ABORTED:
                context.abort(grpc.StatusCode.ABORTED, "injected contention")
            try:
                if outcome is Outcome.TWICE:
                    list(forward(request, metadata=metadata, timeout=30))
                answers = list(forward(request, metadata=metadata, timeout=30))
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())
            if outcome is Outcome.BROKEN:
                yield from answers[: len(answers) // 2]
            if outcome in (Outcome.LOST, Outcome.BROKEN):
                context.abort(self._random.choice(_LOSSES), f"injected: {outcome}")
            yield from answers

        return grpc.unary_stream_rpc_method_handler(answer)

    def close(self) -> None:
        """Close the channel to the emulator."""
        self._channel.close()


@contextmanager
def lossy_firestore(upstream: str, seed: int) -> Iterator[tuple[str, LossyFirestore]]:
    """Run the proxy for a block; yields its address and its handler."""
    handler = LossyFirestore(upstream, seed)
    server = grpc.server(ThreadPoolExecutor(_THREADS), handlers=[handler])
    port = server.add_insecure_port(f"{HOST}:0")
    server.start()
    try:
        yield f"{HOST}:{port}", handler
    finally:
        server.stop(grace=None).wait()
        handler.close()

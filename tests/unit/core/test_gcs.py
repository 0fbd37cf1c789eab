"""What Google's client sends for us: the preconditions that the bucket emulator ignores (docs/development.md).

The server here is a few lines that keep objects and refuse as Cloud Storage does
(https://cloud.google.com/storage/docs/request-preconditions); the client is Google's own.
"""

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c
import pytest

from services.core.errors import DataError
from services.core.gcs import GcsObjectStore
from services.core.storage import StoredObject


@dataclass
class Server:
    """Objects by bucket and name, and what was asked for."""

    objects: dict[tuple[str, str], tuple[int, bytes]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and parameters."""
    before: Callable[[str, str], None] = lambda method, path: None
    """Somebody else, who acts just before a request arrives."""

    def resource(self, at: tuple[str, str]) -> dict[str, Any]:
        generation, content = self.objects[at]
        crc = base64.b64encode(int(google_crc32c.value(content)).to_bytes(4, "big")).decode()
        now = "2026-11-22T17:00:00.000Z"
        facts = {"bucket": at[0], "name": at[1], "generation": str(generation), "size": str(len(content))}
        return facts | {"crc32c": crc, "timeCreated": now}

    def answer(self, method: str, path: str, query: dict[str, str]) -> tuple[int, Any]:
        names = [unquote(piece) for piece in path.split("/")]
        # /storage/v1/b/BUCKET/o/NAME, and /rewriteTo/b/BUCKET/o/NAME behind it; uploads are POST to .../o
        source = (names[4], names[6] if len(names) > 6 else query["name"])
        target = (names[9], names[11]) if "rewriteTo" in names else source
        there = self.objects.get(target)
        wanted = query.get("ifGenerationMatch")
        if wanted is not None and int(wanted) != (there[0] if there else 0):
            return 412, {"error": {"message": "conditionNotMet"}}
        found = self.objects.get(source)
        if "sourceGeneration" in query and found is not None and found[0] != int(query["sourceGeneration"]):
            found = None
        if found is None:
            return 404, {"error": {"message": "notFound"}}
        if method == "POST":
            self.objects[target] = (len(self.requests) + 100, found[1])
            return 200, {"done": True, "totalBytesRewritten": "1", "objectSize": "1", "resource": self.resource(target)}
        if method == "DELETE":
            del self.objects[source]
            return 204, None
        return 200, self.resource(source)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            if url.path.startswith("/upload/"):
                query["name"] = json.loads(body)["name"]
            state.before(self.command, url.path)
            state.requests.append((self.command, url.path, query))
            status, answer = state.answer(self.command, url.path.removeprefix("/upload"), query)
            content = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _any  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{http.server_port}")
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


SOURCE = ("lake", "landing/a b/ç.parquet")
TARGET = ("archive", "archive/a b/ç.parquet")


def stored(server: Server) -> StoredObject:
    found = GcsObjectStore("p").stat(*SOURCE)
    assert found is not None
    server.requests.clear()
    return found


def sent(server: Server, method: str) -> list[dict[str, str]]:
    return [query for each, _, query in server.requests if each == method]


def test_a_copy_says_of_what_generation_and_that_nothing_may_be_there(server: Server) -> None:
    server.objects[SOURCE] = (7, b"new")
    assert GcsObjectStore("p").copy(stored(server), *TARGET) == "there"
    [query] = sent(server, "POST")
    assert (query["ifGenerationMatch"], query["sourceGeneration"]) == ("0", "7")
    assert server.objects[TARGET][1] == b"new"


@pytest.mark.parametrize(("theirs", "expected"), [(b"new", "there"), (b"old", "taken")])
def test_a_copy_that_arrives_late_does_not_write_over_another(server: Server, theirs: bytes, expected: str) -> None:
    server.objects[SOURCE] = (7, b"new")
    asked = stored(server)

    def faster(method: str, _: str) -> None:
        if method == "POST" and TARGET not in server.objects:
            server.objects[TARGET] = (9, theirs)

    server.before = faster
    assert GcsObjectStore("p").copy(asked, *TARGET) == expected
    assert server.objects[TARGET] == (9, theirs)
    assert len(sent(server, "POST")) == 1


@pytest.mark.parametrize("now", [None, (8, b"another")])
def test_a_copy_of_what_is_gone_or_another_by_now_is_none(server: Server, now: tuple[int, bytes] | None) -> None:
    server.objects[SOURCE] = (7, b"new")
    asked = stored(server)

    def away(method: str, _: str) -> None:
        if method == "POST":
            server.objects.pop(SOURCE, None)
            server.objects |= {SOURCE: now} if now else {}

    server.before = away
    assert GcsObjectStore("p").copy(asked, *TARGET) == "gone"
    assert TARGET not in server.objects
    server.before = lambda method, path: None
    assert GcsObjectStore("p").copy(asked, *TARGET) == "gone"


def test_a_delete_is_of_one_generation(server: Server) -> None:
    server.objects[SOURCE] = (7, b"new")
    asked = stored(server)
    server.objects[SOURCE] = (8, b"another")
    assert not GcsObjectStore("p").delete(asked)
    assert sent(server, "DELETE") == [{"ifGenerationMatch": "7", "prettyPrint": "false"}]
    assert server.objects[SOURCE] == (8, b"another")
    server.objects[SOURCE] = (7, b"new")
    assert GcsObjectStore("p").delete(asked)
    assert not GcsObjectStore("p").delete(asked)
    assert server.objects == {}


@pytest.mark.parametrize("theirs", [b"mine!", b"other", b"longer than mine"])
def test_a_write_where_something_is_does_not_read_it(server: Server, theirs: bytes) -> None:
    """Somebody else's object may be of any size: its description says enough."""
    server.objects[SOURCE] = (7, theirs)
    if theirs == b"mine!":
        assert GcsObjectStore("p").create(*SOURCE, io.BytesIO(b"mine!"), "text/plain").generation == 7
    else:
        with pytest.raises(DataError, match="exists with other content"):
            GcsObjectStore("p").create(*SOURCE, io.BytesIO(b"mine!"), "text/plain")
    assert [query["ifGenerationMatch"] for query in sent(server, "POST")] == ["0"]
    assert [query.get("alt") for query in sent(server, "GET")] == [None], "one look, no download"

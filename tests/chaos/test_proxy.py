"""The fault-injecting proxy, in front of a small server that says what it was asked."""

import hashlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from local.stack.ports import HOST
from tests.chaos.proxy import Action, Fault, FaultProxy, google_error

CONTENT = bytes(range(256)) * 16 * 1024
"""4 MiB."""


class Upstream(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__((HOST, 0), Handler)
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def handle_any(self) -> None:
        body = self._read()
        self.server.asked.append((self.command, self.path, dict(self.headers.items()), body))
        if self.path == "/nothing":
            self.send_response(204)
            self.end_headers()
        elif self.path == "/chunked":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(CONTENT), 100_000):
                piece = CONTENT[start : start + 100_000]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        elif self.path.startswith("/upload"):
            self._give(200, b"", {"Location": f"{self.server.url}/session?id=1", "X-Twice": "a"})
        elif self.path == "/object":
            self._range()
        else:
            self._give(200, json.dumps({"sha": hashlib.sha256(body).hexdigest(), "size": len(body)}).encode(), {})

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = handle_any  # noqa: N815

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _range(self) -> None:
        asked = self.headers.get("Range")
        if asked is None:
            self._give(200, CONTENT, {})
            return
        first, last = (int(part) for part in asked.removeprefix("bytes=").split("-"))
        self._give(206, CONTENT[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(CONTENT)}"})

    def _give(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[FaultProxy]:
    with FaultProxy(upstream.url) as opened:
        yield opened


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=proxy.url, timeout=10, trust_env=False) as opened:
        yield opened


def test_bodies_pass_as_they_are(client: httpx.Client, upstream: Upstream, proxy: FaultProxy) -> None:
    expected = {"sha": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT)}
    assert client.post("/echo?a=%2Fb", content=CONTENT).json() == expected
    assert client.put("/echo", content=(CONTENT[i : i + 99_999] for i in range(0, len(CONTENT), 99_999))).json() == (
        expected
    ), "chunked"
    assert [(method, path) for method, path, _, _ in upstream.asked] == [("POST", "/echo?a=%2Fb"), ("PUT", "/echo")]
    assert client.get("/chunked").content == CONTENT
    assert client.get("/object").content == CONTENT
    assert proxy.counts() == {"passed": 4}


def test_ranges_and_answers_without_a_body_pass(client: httpx.Client) -> None:
    part = client.get("/object", headers={"Range": "bytes=1000000-1999999"})
    assert (part.status_code, part.content) == (206, CONTENT[1_000_000:2_000_000])
    assert part.headers["Content-Range"] == f"bytes 1000000-1999999/{len(CONTENT)}"
    head = client.head("/object")
    assert (head.headers["Content-Length"], head.content) == (str(len(CONTENT)), b"")
    assert client.delete("/nothing").status_code == 204
    assert client.get("/echo").status_code == 200, "the connection can still be used"


def test_headers_pass_and_a_location_leads_back_through_the_proxy(
    client: httpx.Client, upstream: Upstream, proxy: FaultProxy
) -> None:
    answer = client.post("/upload?uploadType=resumable", headers={"X-Upload-Content-Type": "a/b"}, content=b"{}")
    assert answer.headers["Location"] == f"{proxy.url}/session?id=1"
    assert answer.headers["X-Twice"] == "a"
    _, _, headers, _ = upstream.asked[0]
    assert headers["X-Upload-Content-Type"] == "a/b"
    assert f"http://{headers['Host']}" == upstream.url, "the server is asked by its own name"


def test_an_error_has_the_reason_that_was_asked_for(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.add(Fault("GET", "/echo", Action.ANSWER, status=403, reason="quotaExceeded"))
    answer = client.get("/echo")
    assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (403, "quotaExceeded")


@pytest.mark.parametrize(("status", "reason"), [(503, "backendError"), (429, "rateLimitExceeded"), (400, "invalid")])
def test_the_next_requests_that_match_are_answered_an_error(
    client: httpx.Client, upstream: Upstream, proxy: FaultProxy, status: int, reason: str
) -> None:
    fault = proxy.answer("POST", "/echo", status, times=2, after=1)
    answers = [client.post("/echo", content=b"x" * 100_000) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, status, status, 200]
    assert answers[1].json()["error"]["errors"][0]["reason"] == reason
    assert answers[1].json() == json.loads(google_error(status))
    assert client.get("/echo").status_code == 200, "another method"
    assert client.post("/other").status_code == 200, "another path"
    assert (fault.done, proxy.counts()) == (2, {"passed": 4, "answer": 2})
    assert len(upstream.asked) == 4, "the server heard of the others only"


def test_a_request_hangs_and_is_then_forwarded(client: httpx.Client, upstream: Upstream, proxy: FaultProxy) -> None:
    proxy.add(Fault("GET", "/echo", Action.HANG, seconds=0.4))
    started = time.monotonic()
    assert client.get("/echo").status_code == 200
    assert time.monotonic() - started >= 0.4

    fault = proxy.add(Fault("GET", "/echo", Action.HANG))
    with pytest.raises(httpx.ReadTimeout):
        client.get("/echo", timeout=0.2)
    assert fault.reached.is_set()
    assert len(upstream.asked) == 1
    fault.released.set()
    deadline = time.monotonic() + 5
    while len(upstream.asked) < 2:
        assert time.monotonic() < deadline, "it is forwarded though the client has gone"
        time.sleep(0.02)
    assert proxy.counts() == {"hang": 2}


@pytest.mark.parametrize(("action", "heard"), [(Action.CLOSE, 0), (Action.LOSE_ANSWER, 1)])
def test_the_connection_is_closed_before_or_after_the_server_hears(
    client: httpx.Client, upstream: Upstream, proxy: FaultProxy, action: Action, heard: int
) -> None:
    proxy.add(Fault("POST", "/echo", action))
    with pytest.raises(httpx.TransportError):
        client.post("/echo", content=b"{}")
    assert len(upstream.asked) == heard
    assert client.post("/echo", content=b"{}").status_code == 200
    assert proxy.counts() == {action.value: 1, "passed": 1}


def test_a_lost_answer_is_kept_for_the_next_request(
    client: httpx.Client, upstream: Upstream, proxy: FaultProxy
) -> None:
    proxy.add(Fault("PUT", "/echo", Action.LOSE_AND_KEEP))
    with pytest.raises(httpx.TransportError):
        client.put("/echo?id=1", content=b"xyz")
    assert client.put("/echo?id=2", content=b"").json()["size"] == 0, "another path"
    assert client.put("/echo?id=1", content=b"").json()["size"] == 3
    assert len(upstream.asked) == 2
    assert client.put("/echo?id=1", content=b"").json()["size"] == 0, "once"


def test_a_fault_looks_at_the_body_where_it_is_asked_to(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.add(Fault("POST", "/echo", Action.ANSWER, contains=b"merge into"))
    assert client.post("/echo", content=CONTENT).json()["size"] == len(CONTENT)
    assert client.post("/echo", content=b"-- x\nMERGE INTO y").status_code == 503
    assert client.post("/echo", content=b"MERGE INTO y").status_code == 200


def test_the_connection_is_closed_in_the_middle_of_the_request(
    client: httpx.Client, upstream: Upstream, proxy: FaultProxy
) -> None:
    proxy.add(Fault("PUT", "/echo", Action.CUT_REQUEST))
    with pytest.raises(httpx.TransportError):
        client.put("/echo", content=CONTENT)
    deadline = time.monotonic() + 5
    while not upstream.asked:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    _, _, headers, body = upstream.asked[0]
    assert int(headers["Content-Length"]) == len(CONTENT)
    assert body == CONTENT[: len(CONTENT) // 2]


@pytest.mark.parametrize("path", ["/object", "/chunked"])
def test_the_connection_is_closed_in_the_middle_of_the_answer(proxy: FaultProxy, path: str) -> None:
    proxy.add(Fault("GET", path, Action.CUT_ANSWER))
    connection = http.client.HTTPConnection(HOST, int(proxy.url.rsplit(":", 1)[1]), timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    with pytest.raises(http.client.IncompleteRead) as caught:
        answer.read()
    connection.close()
    assert caught.value.partial == CONTENT[: len(CONTENT) // 2]


def test_an_answer_is_changed(client: httpx.Client, proxy: FaultProxy) -> None:
    proxy.edit("POST", "/echo", lambda document: {**document, "size": "none"})
    assert client.post("/echo", content=b"x").json()["size"] == "none"
    assert client.post("/echo", content=b"x").json()["size"] == 1


def test_a_block_of_faults_must_happen_and_ends_with_the_block(client: httpx.Client, proxy: FaultProxy) -> None:
    with proxy.only(Fault("GET", "/echo", Action.ANSWER, times=5)):
        assert client.get("/echo").status_code == 503
    assert client.get("/echo").status_code == 200
    with pytest.raises(AssertionError, match="did not happen"), proxy.only(Fault("GET", "/never", Action.CLOSE)):
        pass


def test_a_server_that_is_gone_is_a_broken_connection() -> None:
    upstream = Upstream()
    address = upstream.url
    upstream.server_close()
    with FaultProxy(address) as proxy, pytest.raises(httpx.TransportError):
        httpx.get(f"{proxy.url}/echo", trust_env=False)
    with pytest.raises(ValueError, match="not an address"):
        FaultProxy("localhost")

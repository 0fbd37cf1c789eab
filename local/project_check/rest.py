"""BigQuery's REST API before such a warehouse, as far as dbt asks: Google's own client talks to it, unmodified.

https://cloud.google.com/bigquery/docs/reference/rest
"""

import base64
import json
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from local.googlesql.engine import NoAnswer, Refused
from local.googlesql.types import STANDARD_NAMES
from local.project_check.warehouse import Held, Ran, Warehouse

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OF_THE_API = {standard: name for name, standard in STANDARD_NAMES.items()}
_ANSWER = "_answer"
"""The dataset of queries' answers."""

Body = dict[str, Any]


@contextmanager
def serving(warehouse: Warehouse) -> Iterator[str]:
    """Serve a warehouse for a block, on a free port of 127.0.0.1.

    Yields:
        The value of BIGQUERY_EMULATOR_HOST.
    """
    api = _Api(warehouse)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else {}
            status, answer = api.answer(self.command, urlsplit(self.path).path, body)
            content = json.dumps(answer).encode()
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
            # In one piece: a head that is sent alone lets its body wait for the client's acknowledgement.
            self.wfile.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _answer  # noqa: N815 - the names that are looked up

        def log_message(self, *_: Any) -> None:
            """Say nothing of requests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Missing(Exception):
    """There is no such thing."""


class _Api:
    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._jobs: dict[str, Body] = {}
        self._answers: dict[str, Ran] = {}
        self._metadata: dict[str, Body] = {}
        """What was set of a table besides its columns: its description."""
        project, name = "/projects/([^/]+)", "([^/]+)"
        table = f"{project}/datasets/{name}/tables"
        routes: dict[tuple[str, str], Callable[..., Body]] = {
            ("GET", f"{project}/datasets"): self._datasets,
            ("POST", f"{project}/datasets"): lambda project: {},
            ("GET", table): self._tables,
            ("GET", f"{project}/datasets/{name}/routines"): lambda project, dataset: {},
            ("GET", f"{table}/{name}"): self._table,
            ("PATCH", f"{table}/{name}"): self._table,
            ("DELETE", f"{table}/{name}"): self._drop,
            ("POST", f"{project}/jobs"): self._insert,
            ("GET", f"{project}/jobs/{name}"): lambda project, job: self._jobs[job],
            ("GET", f"{project}/queries/{name}"): self._results,
        }
        self._routes = [(method, re.compile(f"/bigquery/v2{path}"), route) for (method, path), route in routes.items()]

    def answer(self, method: str, path: str, body: Body) -> tuple[HTTPStatus, Body]:
        """Answer a request."""
        for its_method, pattern, route in self._routes:
            if method == its_method and (found := pattern.fullmatch(path)):
                try:
                    return HTTPStatus.OK, route(*found.groups(), **({"body": body} if route == self._insert else {}))
                except (KeyError, _Missing) as missing:
                    return _error(HTTPStatus.NOT_FOUND, "notFound", f"Not found: {missing}")
                except Refused as refused:
                    return _error(HTTPStatus.BAD_REQUEST, "invalidQuery", str(refused))
                except NoAnswer as broken:
                    return _error(HTTPStatus.BAD_REQUEST, "invalid", f"Google's engine broke off: {broken}")
        return _error(HTTPStatus.NOT_IMPLEMENTED, "notImplemented", f"{method} {path} is not known to the check")

    def _insert(self, project: str, body: Body) -> Body:
        query = body["configuration"]["query"]["query"]
        job = body.get("jobReference", {}).get("jobId") or secrets.token_hex(8)
        ran = self._warehouse.run(query)
        self._answers[job] = ran
        destination = {"projectId": project, "datasetId": _ANSWER, "tableId": job}
        self._jobs[job] = {
            "id": f"{project}:US.{job}",
            "jobReference": {"projectId": project, "jobId": job, "location": "US"},
            "configuration": {"jobType": "QUERY", "query": {"query": query, "destinationTable": destination}},
            "status": {"state": "DONE"},
            "statistics": {"query": {"statementType": ran.statement_type, "totalBytesProcessed": "0"}},
        }
        return self._jobs[job]

    def _results(self, project: str, job: str) -> Body:
        ran = self._answers[job]
        return {
            "jobReference": {"projectId": project, "jobId": job, "location": "US"},
            "jobComplete": True,
            "schema": {"fields": [_of_the_api(field) for field in ran.fields]},
            "totalRows": str(len(ran.rows)),
            "rows": [{"f": [{"v": _encoded(value)} for value in row]} for row in ran.rows],
        }

    def _datasets(self, project: str) -> Body:
        names = {id_.split(".")[1] for id_ in self._warehouse.held}
        return {"datasets": [{"datasetReference": {"projectId": project, "datasetId": name}} for name in sorted(names)]}

    def _tables(self, project: str, dataset: str) -> Body:
        held = [each for each in list(self._warehouse.held.values()) if each.id.startswith(f"{project}.{dataset}.")]
        return {"tables": [_table(each) for each in held], "totalItems": len(held)}

    def _table(self, project: str, dataset: str, name: str) -> Body:
        if dataset == _ANSWER:
            ran = self._answers[name]
            return _table(Held(f"{project}.{dataset}.{name}", ran.fields)) | {"numRows": str(len(ran.rows))}
        return _table(self._warehouse.held[f"{project}.{dataset}.{name}"])

    def _drop(self, project: str, dataset: str, name: str) -> Body:
        self._warehouse.drop(f"{project}.{dataset}.{name}")
        return {}


def _error(status: HTTPStatus, reason: str, message: str) -> tuple[HTTPStatus, Body]:
    errors = [{"reason": reason, "message": message}]
    return status, {"error": {"code": status.value, "message": message, "errors": errors}}


def _table(held: Held) -> Body:
    project, dataset, name = held.id.split(".")
    kind: Body = {"type": "VIEW", "view": {"query": held.view}} if held.view else {"type": "TABLE"}
    return kind | {
        "id": f"{project}:{dataset}.{name}",
        "tableReference": {"projectId": project, "datasetId": dataset, "tableId": name},
        "schema": {"fields": [_of_the_api(field) for field in held.fields]},
        "numRows": str(len(held.rows)),
    }


def _of_the_api(field: Mapping[str, Any]) -> Body:
    inner = {"fields": [_of_the_api(each) for each in field["fields"]]} if "fields" in field else {}
    name = field["type"]
    return {"name": field["name"], "type": _OF_THE_API.get(name, name), "mode": field.get("mode", "NULLABLE")} | inner


def _encoded(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime) and value.tzinfo is not None:
        return str((value - _EPOCH) // timedelta(microseconds=1))
    if isinstance(value, date | datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {"f": [{"v": _encoded(each)} for each in value.values()]}
    if isinstance(value, list):
        return [{"v": _encoded(each)} for each in value]
    return str(value)

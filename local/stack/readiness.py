"""Look at a component from outside: does it answer yet?"""

import threading
from functools import cache

import httpx
import psycopg
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, stop_when_event_set, wait_fixed
from tenacity.nap import sleep_using_event

from local.stack.component import Component, HttpProbe, PostgresProbe, Probe, PubSubProbe
from local.stack.errors import ComponentError, StepCancelledError
from local.stack.process import ProcessId, find

PROBE_SECONDS = 2.0
"""How long one look may take."""

POLL_SECONDS = 0.1
"""How long to wait between two looks."""


def is_ready(probe: Probe) -> bool:
    """Look once. False for anything but the expected answer."""
    match probe:
        case HttpProbe():
            return _http_answers(probe)
        case PostgresProbe():
            conninfo = psycopg.conninfo.make_conninfo(
                host=probe.host, port=probe.port, dbname="postgres", connect_timeout=int(PROBE_SECONDS)
            )
            return psycopg.pq.PGconn.ping(conninfo.encode()) == psycopg.pq.Ping.OK
        case PubSubProbe():
            return _pubsub_answers(probe)


def wait_until_ready(component: Component, process: ProcessId, cancel: threading.Event) -> None:
    """Wait until a started component answers.

    Raises:
        ComponentError: its process ended, or it did not answer within its `ready_seconds`.
        StepCancelledError: `cancel` was set meanwhile.
    """
    waiting = Retrying(
        stop=stop_after_delay(component.ready_seconds) | stop_when_event_set(cancel),
        wait=wait_fixed(POLL_SECONDS),
        sleep=sleep_using_event(cancel),
        retry=retry_if_result(lambda ready: not ready),
    )
    try:
        waiting(_ready_or_ended, component, process)
    except RetryError as error:
        if cancel.is_set():
            raise StepCancelledError(f"the start of {component.name} was cancelled") from error
        problem = f"did not answer within {component.ready_seconds:.0f} s"
        raise ComponentError(component.name, problem, component.command, component.log) from error


def _ready_or_ended(component: Component, process: ProcessId) -> bool:
    if find(process) is None:
        raise ComponentError(component.name, "ended before it was ready", component.command, component.log)
    return is_ready(component.probe)


def _http_answers(probe: HttpProbe) -> bool:
    try:
        answer = _http_client().get(probe.url)
    except httpx.HTTPError:
        return False
    return probe.any_status or answer.status_code < 400


@cache
def _http_client() -> httpx.Client:
    """Return one client for all probes: making one reads the system's certificates, too slow for every look."""
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(timeout=PROBE_SECONDS, trust_env=False, limits=limits)


def _pubsub_answers(probe: PubSubProbe) -> bool:
    # A second to import, which `down` need not wait for.
    import grpc
    from google.pubsub_v1.types import ListTopicsRequest

    request = ListTopicsRequest.serialize(ListTopicsRequest(project=f"projects/{probe.project}"))
    with grpc.insecure_channel(probe.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        list_topics = channel.unary_unary("/google.pubsub.v1.Publisher/ListTopics")
        try:
            list_topics(request, timeout=PROBE_SECONDS)
        except grpc.RpcError:
            return False
    return True

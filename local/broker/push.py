"""Push delivery: one dispatcher per push subscription, which posts what is due and reports the answers."""

import asyncio
import logging

import httpx

from local.broker.broker import Broker
from local.broker.delivery import Delivery, acknowledges, push_envelope
from local.broker.errors import NotFoundError
from local.broker.resources import Rules

logger = logging.getLogger(__name__)

MAX_IN_FLIGHT = 16
"""Requests that one subscription has open at once."""
_LEASE_MARGIN_SECONDS = 1.0  # the request's own timeout, which is the ack deadline, ends a lease first


class Pusher:
    """Posts the messages of every push subscription that `ensure` was called for."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        # trust_env=False: a proxy of the environment is not for endpoints on this machine. No connection is kept: one
        # that its server just closed would look like a failed delivery.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        headers = {"User-Agent": "credix-local-broker"}
        # The ack deadline is for the whole request, httpx's timeouts are for each step of it: see _post.
        self._client = httpx.AsyncClient(trust_env=False, limits=limits, headers=headers, timeout=httpx.Timeout(None))
        self._dispatchers: dict[str, asyncio.Task[None]] = {}
        self._requests: set[asyncio.Task[None]] = set()
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the exception of a dispatcher that ended by one; the broker cannot go on without it."""

    def ensure(self, subscription: str) -> None:
        """Start the subscription's dispatcher unless it runs; it ends by itself when there is nothing to push to."""
        running = self._dispatchers.get(subscription)
        if running is None or running.done():
            dispatcher = asyncio.create_task(self._dispatch(subscription), name=subscription)
            self._dispatchers[subscription] = dispatcher
            dispatcher.add_done_callback(self._dispatcher_ended)

    async def close(self, grace: float) -> None:
        """Give open requests `grace` seconds; what is cut off is delivered again after the next start."""
        for dispatcher in self._dispatchers.values():
            dispatcher.cancel()
        if self._requests:
            await asyncio.wait(self._requests, timeout=grace)
        for request in self._requests:
            request.cancel()
        await self._client.aclose()

    async def _dispatch(self, subscription: str) -> None:
        in_flight: set[asyncio.Task[None]] = set()

        def answered(request: asyncio.Task[None]) -> None:
            in_flight.discard(request)
            self._requests.discard(request)
            self._broker.changed(subscription)
            if not request.cancelled() and (error := request.exception()):
                logger.error("a push of %s broke; it is tried again", subscription, exc_info=error)

        while rules := self._push_rules(subscription):
            room = MAX_IN_FLIGHT - len(in_flight)
            for delivery in self._broker.lease(rules, room, rules.ack_deadline + _LEASE_MARGIN_SECONDS):
                request = asyncio.create_task(self._push(rules, delivery))
                in_flight.add(request)
                self._requests.add(request)
                request.add_done_callback(answered)
            await self._broker.wait(subscription, ready=len(in_flight) < MAX_IN_FLIGHT)

    async def _push(self, rules: Rules, delivery: Delivery) -> None:
        problem = await self._post(rules, delivery)
        if problem is None:
            self._broker.acknowledge(rules.name, [delivery.ack_id])
        else:
            logger.info("%s: message %s, attempt %d: %s", rules.name, delivery.message.id, delivery.attempt, problem)
            self._broker.fail(rules.name, [delivery.ack_id])

    async def _post(self, rules: Rules, delivery: Delivery) -> str | None:
        """Post the envelope and return why that is no acknowledgement, or None."""
        envelope = push_envelope(delivery, with_attempt=rules.dead_letter is not None)
        try:
            async with asyncio.timeout(rules.ack_deadline):
                response = await self._client.post(rules.push_endpoint, json=envelope)
        except TimeoutError:
            return f"no answer within the ack deadline of {rules.ack_deadline:g} s"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return f"{type(error).__name__}: {error}"
        return None if acknowledges(response.status_code) else f"answered {response.status_code}"

    def _push_rules(self, subscription: str) -> Rules | None:
        """Return the rules while there is something to push to."""
        try:
            rules = self._broker.rules(subscription)
        except NotFoundError:
            return None
        return rules if rules.push_endpoint and not self._broker.closing else None

    def _dispatcher_ended(self, dispatcher: asyncio.Task[None]) -> None:
        if self._dispatchers.get(dispatcher.get_name()) is dispatcher:
            del self._dispatchers[dispatcher.get_name()]
        if not dispatcher.cancelled() and (error := dispatcher.exception()) and not self.broken.done():
            self.broken.set_exception(error)

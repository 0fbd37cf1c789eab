"""Run the broker: `python -m local.broker --port 8085 --database broker.sqlite3`."""

import argparse
import asyncio
import logging
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

from local.broker.broker import Broker
from local.broker.grpc_api import PubSubHandler, start_server
from local.broker.publisher_api import PublisherApi
from local.broker.push import Pusher
from local.broker.resources import read_subscription
from local.broker.store import Store
from local.broker.subscriber_api import SubscriberApi

logger = logging.getLogger("local.broker")


def main() -> int:
    """Serve until SIGTERM or SIGINT; return 0 after a clean end, 1 when the broker could not start or go on."""
    parser = argparse.ArgumentParser(prog="python -m local.broker", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8085, help="port, 0 for a free one (default: %(default)s)")
    parser.add_argument("--database", type=Path, required=True, help="the SQLite file, made when missing")
    parser.add_argument(
        "--grace",
        type=float,
        default=5.0,
        help="seconds that a stop waits for open push requests (default: %(default)s)",
    )
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        asyncio.run(_serve(options.host, options.port, options.database, options.grace))
    except sqlite3.OperationalError as error:
        logger.error("cannot use the database %s: %s (does another broker hold it?)", options.database, error)
        return 1
    except RuntimeError as error:
        logger.error("cannot listen on %s:%d: %s", options.host, options.port, error)
        return 1
    return 0


async def _serve(host: str, port: int, database: Path, grace: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    store = Store(database)
    broker = Broker(store)
    broker.recover()
    pusher = Pusher(broker)
    handler = PubSubHandler(PublisherApi(store, broker), SubscriberApi(store, broker, pusher))
    server, bound = await start_server(handler, host, port)
    for resource in store.subscriptions():
        pusher.ensure(read_subscription(resource).name)
    logger.info("listening on %s:%d, database %s", host, bound, database)

    stopping = asyncio.create_task(stop.wait())
    expiring = asyncio.create_task(broker.end_expired_leases())
    ends: set[asyncio.Future[Any]] = {stopping, expiring, pusher.broken}
    done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    broker.close()
    await pusher.close(grace)
    await server.stop(1.0)
    expiring.cancel()
    store.close()
    for end in done:
        end.result()  # raises what the broker could not go on after


if __name__ == "__main__":
    sys.exit(main())

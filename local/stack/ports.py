"""Which ports the components listen on.

Ports are taken below the kernel's range for outgoing connections. A port from that range (what binding to port 0 gives)
can be taken by any client while its component is down; a client that keeps trying a dead local port can even connect
to itself. Both would make a killed component impossible to start again.
"""

import random
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

HOST = "127.0.0.1"
"""The only address anything here listens on."""

_LINUX_OUTGOING_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 12000
_OUTGOING_DEFAULT = 32768
"""Linux's default; macOS starts at 49152."""

_PREFERRED_TRIES = 20
_PREFERRED_PAUSE = 0.1
"""Seconds between two tries for a port that was used before."""


def choose_ports(
    names: Iterable[str], preferred: Mapping[str, int] | None = None, keep: frozenset[str] = frozenset()
) -> dict[str, int]:
    """Return a free port per name, all different.

    Args:
        names: what the ports are for.
        preferred: ports of an earlier run, used again where they are still free, so that a client's environment stays
            right over a stop and a start.
        keep: names whose preferred port is kept though it is in use: their component is running on it.

    Raises:
        OSError: no port is free.
    """
    wanted = dict(preferred or {})
    chosen = {name: wanted[name] for name in names if name in keep and name in wanted}
    with ExitStack() as held:  # every socket stays bound until the last port is chosen: no port is chosen twice
        for name in names:
            if name not in chosen:
                chosen[name] = _bind_one(held, wanted.get(name), taken=set(chosen.values()))
    return chosen


def _bind_one(held: ExitStack, preferred: int | None, taken: set[int]) -> int:
    if preferred and preferred not in taken:
        # A process that was killed a moment ago may still be letting go of it.
        for _ in range(_PREFERRED_TRIES):
            if _bound(held, preferred) is not None:
                return preferred
            time.sleep(_PREFERRED_PAUSE)
    for candidate in [*random.sample(range(_LOWEST, _first_outgoing_port()), k=200), 0]:
        if candidate not in taken and (port := _bound(held, candidate)) is not None:
            return port
    raise OSError(f"no free port on {HOST}")


def _bound(held: ExitStack, candidate: int) -> int | None:
    """Bind a socket to the port (0: to any) and keep it; None when the port is in use."""
    probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((HOST, candidate))
    except OSError:
        return None
    return int(probe.getsockname()[1])


def _first_outgoing_port() -> int:
    if _LINUX_OUTGOING_RANGE.exists():
        first = int(_LINUX_OUTGOING_RANGE.read_text().split()[0])
        return first if first > _LOWEST + 1000 else _OUTGOING_DEFAULT
    return _OUTGOING_DEFAULT

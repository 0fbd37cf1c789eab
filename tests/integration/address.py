"""One address for a source whose server changes, as a failover or a load balancer makes it."""

import socket
import threading
from contextlib import suppress

from local.stack.ports import HOST


class Address:
    """A port whose connections go on to a server; to another one from a moment on."""

    def __init__(self, port: int) -> None:
        """Listen.

        Args:
            port: of the server that is reached first.
        """
        self._to = port
        self._open: set[socket.socket] = set()
        self._listening = socket.create_server((HOST, 0))
        self.port = int(self._listening.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def to(self, port: int) -> None:
        """Send new connections to another server, and end those that are open."""
        self._to = port
        for connection in [*self._open]:
            with suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Listen no longer."""
        self._listening.close()
        self.to(self._to)

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                try:
                    server = socket.create_connection((HOST, self._to))
                except OSError:
                    client.close()  # as a server's machine does while it does not run
                    continue
                self._open |= {client, server}
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._forward, args=pair, daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # one of the two ended it
            while data := source.recv(65_536):
                target.sendall(data)
        for connection in (source, target):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open -= {source, target}

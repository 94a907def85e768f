"""The server of the labelling page: on this machine alone, a thread for each connection."""

import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from typing import Any

from frofa.annotation.server.access import Access
from frofa.annotation.server.handler import Handler
from frofa.annotation.server.pictures import Pictures
from frofa.annotation.server.routes import Respond, Routes

ADDRESS = "127.0.0.1"
MOST_CONNECTIONS = 64
"""Connections at a time; a browser opens six."""
REQUEST_SECONDS = 120.0
"""Time after which a request that has not come whole, or an answer that is not taken, ends its connection; it begins
with the answer before, after which a connection may be idle for `IDLE_SECONDS`."""


class LabellingServer(ThreadingHTTPServer):
    """Serves the labelling page of a session to this machine.

    Parameters
    ----------
    respond : callable
        Answers a request of the page, a dict, by a dict.
    pictures : Pictures
        Thumbnails and large pictures by index.
    access : Access
        The token, and the port of last time, which is taken again if it is free.
    port : int
        0 takes that of last time, or any.
    report : callable
        Gets the text of an error that was not expected.

    Raises
    ------
    OSError
        If the port is taken.
    """

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there, it lets two servers have one port
    request_queue_size = 32

    def __init__(
        self,
        respond: Respond,
        pictures: Pictures,
        access: Access,
        port: int = 0,
        *,
        report: Callable[[str], object] = print,
    ):
        self._busy: dict[socket.socket, float] = {}
        self._connections = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._report = report
        self.last_picture = 0.0
        self.port = self._bind(port or access.port, must=port != 0)
        self._access = access
        access.keep(self.port)
        self.routes = Routes(respond, pictures, access.token, self.port)

    def _bind(self, port: int, *, must: bool) -> int:
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            if must:
                raise OSError(error.errno, f"cannot serve on port {port} of {ADDRESS}: {error.strerror}") from error
            super().__init__((ADDRESS, 0), Handler)
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address that opens the page."""
        return f"http://{ADDRESS}:{self.port}/?token={self.routes.token}"

    def one_time_url(self) -> str:
        """Give an address that opens the page once, within a minute."""
        return f"http://{ADDRESS}:{self.port}/?once={self.routes.once.give()}"

    def server_close(self) -> None:
        """Close the socket, and let another server have the address that was kept."""
        super().server_close()
        if hasattr(self, "_access"):  # not while it looks for a port
            self._access.release()

    def server_bind(self) -> None:
        """Bind the socket without asking for this machine's name, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(self.allow_reuse_address))
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, or close it where there are too many."""
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection until it ends."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def service_actions(self) -> None:
        """End connections whose request takes too long, such as one that comes byte by byte."""
        late = time.monotonic() - REQUEST_SECONDS
        for connection, since in list(self._busy.items()):
            if since < late:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def busy(self, connection: socket.socket) -> Iterator[None]:
        """Count the time of a request of a connection."""
        self._busy[connection] = time.monotonic()
        try:
            yield
        finally:
            self._busy.pop(connection, None)

    def served(self, kind: str) -> None:
        """Note that something of this type was answered, for those who wait until the page is there."""
        if kind.startswith("image/"):
            self.last_picture = time.monotonic()

    def report(self, error: Exception) -> None:
        """Say in the terminal what the page is not told."""
        self._report("".join(traceback.format_exception(error)))

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 (the base's signature)
        """Report what a connection broke on."""
        self._report(traceback.format_exc())

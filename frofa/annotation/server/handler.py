"""HTTP, as little of it as the labelling page needs, with bounds on everything that is read."""

from contextlib import AbstractContextManager
from http import HTTPStatus
from http.client import LineTooLong
from http.server import BaseHTTPRequestHandler
from io import BufferedIOBase
from typing import Any, Protocol

from frofa.annotation.server.answers import HEADERS, Answer, RefusedError
from frofa.annotation.server.requests import (
    LONGEST_BODY,
    LONGEST_HEADERS,
    LONGEST_LINE,
    Request,
    check_length,
    check_origin,
    read_request,
)
from frofa.annotation.server.routes import Routes

IDLE_SECONDS = 60.0
"""Time after which a connection that says nothing is closed; browsers open another."""


class Owner(Protocol):
    """A server whose connections are handled."""

    port: int
    routes: Routes

    def busy(self, connection: Any) -> AbstractContextManager[None]:
        """Count the time of a request of a connection."""

    def served(self, kind: str) -> None:
        """Note that something of this type was answered."""

    def report(self, error: Exception) -> None:
        """Say in the terminal what the page is not told."""


class BoundedReader:
    """The reading end of a connection, from which a request's lines take so many bytes together and no more."""

    def __init__(self, file: BufferedIOBase):
        self._file, self._left = file, 0
        self.close = file.close

    def begin(self) -> None:
        """Allow for the lines of another request."""
        self._left = LONGEST_LINE + LONGEST_HEADERS

    def readline(self, size: int = -1) -> bytes:
        """Read a line; LineTooLong if it, or all of them, have too many bytes."""
        longest = min(LONGEST_LINE, self._left)
        line = self._file.readline(longest + 1 if size < 0 else min(size, longest + 1))
        if len(line) > longest:
            raise LineTooLong("line")
        self._left -= len(line)
        return line

    def read(self, size: int) -> bytes:
        """Read the bytes of a body."""
        return self._file.read(min(size, LONGEST_BODY))


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection, one after another."""

    server: Owner  # type: ignore[assignment] # the base knows less of it
    server_version, sys_version = "frofa", ""
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True

    def setup(self) -> None:
        """Bound what is read."""
        super().setup()
        self.rfile: Any = BoundedReader(self.rfile)

    def handle(self) -> None:
        """Answer until one side closes."""
        self.close_connection = False
        while not self.close_connection:
            self.handle_one_request()

    def handle_one_request(self) -> None:
        """Read a request and answer it; what the other side breaks ends the connection, and nothing else."""
        try:
            with self.server.busy(self.connection):
                self._serve()
        except (TimeoutError, ConnectionError):
            self.close_connection = True

    def _serve(self) -> None:
        self.rfile.begin()
        try:
            self.raw_requestline = self.rfile.readline()
        except LineTooLong:
            self.requestline, self.command, self.request_version = "", "", self.protocol_version
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
            return
        if not self.raw_requestline:
            self.close_connection = True
        elif self.parse_request():  # which answers by `send_error` what is no HTTP
            self._send(self._answer())

    def handle_expect_100(self) -> bool:
        """Ask for the body only after the checks, which never takes a question: bodies are small."""
        self.send_error(HTTPStatus.EXPECTATION_FAILED)
        return False

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002 (the base's signature)
        """Answer that a request is no HTTP, or too long, and close the connection."""
        status = HTTPStatus(code)
        self.close_connection = True
        self._send(RefusedError(status, f"{status.phrase}.").answer(as_text=True))

    def version_string(self) -> str:
        """Name the server, and no versions."""
        return self.server_version

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base's signature)
        """Log nothing: addresses have the token in them."""

    def _answer(self) -> Answer:
        request: Request | None = None
        # A body that nobody reads would be taken for the next request.
        is_read = False
        try:
            request = read_request(self.command, self.path, self.request_version, self.headers)
            length = check_length(request)
            check_origin(request, self.server.port)
            body = self.rfile.read(length) if length else b""
            if len(body) < length:
                raise ConnectionError("the body ended early")
            is_read = True
            return self.server.routes.answer(request, body)
        except RefusedError as refused:
            # A person reads what the address of the page says; a script, all else.
            return refused.answer(as_text=request is not None and request.path == "/")
        except (ConnectionError, TimeoutError):
            raise
        except Exception as error:
            self.server.report(error)
            reason = "something went wrong, which the terminal says."
            return RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, reason).answer()
        finally:
            self.close_connection |= not is_read

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {**HEADERS, **answer.headers}.items():
            self.send_header(name, value)
        if answer.status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.server.served(answer.kind)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()

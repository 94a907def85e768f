"""Checks of a request before anything answers it: who asks, from where, with what, and how much."""

import re
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from urllib.parse import parse_qsl

from frofa.annotation.server.access import is_token
from frofa.annotation.server.answers import RefusedError

LONGEST_LINE = 8 * 1024
"""Bytes of a request line, or of the line of a header."""
LONGEST_HEADERS = 32 * 1024
"""Bytes of all headers of a request."""
LONGEST_BODY = 4 * 1024 * 1024
"""Bytes of a body: labels of some 20,000 images at once."""
MOST_PARAMETERS = 8
METHODS = ("GET", "HEAD", "POST")
VERSIONS = ("HTTP/1.0", "HTTP/1.1")
OWN_SITE = ("same-origin", "none")
"""Values of Sec-Fetch-Site of requests that our own page makes, or the user by typing an address."""


@dataclass(frozen=True)
class Request:
    """A request as it came: its method, the path and the parameters of its target, its version and its headers."""

    method: str
    path: str
    parameters: dict[str, str]
    version: str
    headers: Message

    def header(self, name: str) -> str | None:
        """Give a header that may be sent once; a RefusedError says that it was sent several times."""
        values = self.headers.get_all(name) or []
        if len(values) > 1:
            raise RefusedError(HTTPStatus.BAD_REQUEST, f"expected one header {name}. Got {len(values)}.")
        return str(values[0]).strip() if values else None


def read_request(method: str, target: str, version: str, headers: Message) -> Request:
    """Take the target of a request apart; a RefusedError says that it has too many parameters."""
    path, _, query = target.partition("?")
    try:
        # Nothing in the path is decoded: routes are compared as they are written.
        parameters = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=MOST_PARAMETERS))
    except ValueError as error:
        message = f"expected at most {MOST_PARAMETERS} parameters, in ASCII or UTF-8."
        raise RefusedError(HTTPStatus.BAD_REQUEST, message) from error
    return Request(method, path, parameters, version, headers)


def check_origin(request: Request, port: int) -> None:
    """Refuse what was not addressed to this server by name, and what another site's page asks for.

    A name of another host that resolves to this machine (DNS rebinding) is none of ours. Other ports of this machine
    are other sites, of which a link may lead to the page, and nothing more.
    """
    if request.version not in VERSIONS:
        raise RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"expected {' or '.join(VERSIONS)}.")
    hosts = [f"127.0.0.1:{port}", f"localhost:{port}"]
    if (host := (request.header("Host") or "").lower()) not in hosts:
        raise RefusedError(HTTPStatus.FORBIDDEN, f"expected the host {' or '.join(hosts)}: open the page by that name.")
    origin = request.header("Origin")
    if origin is not None and origin != f"http://{host}":
        raise RefusedError(HTTPStatus.FORBIDDEN, "another site's page asked for this, which only our own page may.")
    site = request.header("Sec-Fetch-Site")
    if site is not None and site not in OWN_SITE and not (site == "same-site" and _follows_link(request)):
        message = "another site asked for this: copy the address that 'frofa label' printed, and open it by hand."
        raise RefusedError(HTTPStatus.FORBIDDEN, message)


def _follows_link(request: Request) -> bool:
    wanted = request.header("Sec-Fetch-Mode"), request.header("Sec-Fetch-Dest")
    return request.method == "GET" and request.path == "/" and wanted == ("navigate", "document")


def check_length(request: Request) -> int:
    """Give the bytes of a request's body, which must be announced, be few, and belong to a POST."""
    if request.method not in METHODS:
        message = f"expected one of the methods {', '.join(METHODS)}."
        raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, message, {"Allow": ", ".join(METHODS)})
    if request.header("Transfer-Encoding") is not None:
        raise RefusedError(HTTPStatus.NOT_IMPLEMENTED, "expected a body of a length that is said before.")
    text = request.header("Content-Length")
    if text is None:
        if request.method == "POST":
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "expected a header Content-Length.")
        return 0
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise RefusedError(HTTPStatus.BAD_REQUEST, "expected a whole number as Content-Length.")
    length = int(text)
    if length > LONGEST_BODY:
        message = f"expected a body of at most {LONGEST_BODY} bytes. Got {length}."
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
    if length and request.method != "POST":
        raise RefusedError(HTTPStatus.BAD_REQUEST, f"expected no body with {request.method}.")
    return length


def check_post(request: Request) -> None:
    """Refuse what a form or a link of another site could send: JSON with a header of our own is neither."""
    kind = (request.header("Content-Type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected the Content-Type application/json.")
    if request.header("X-Frofa") is None:
        raise RefusedError(HTTPStatus.FORBIDDEN, "expected the header X-Frofa.")


def cookie_name(port: int) -> str:
    """Name the cookie of a server: browsers send cookies to every port of a host."""
    return f"frofa-{port}"


def has_token(request: Request, token: str, port: int) -> bool:
    """Tell whether the request's cookie has the token."""
    # Other programs' cookies come along, whatever they look like.
    cookies = [one.strip().partition("=") for one in (request.header("Cookie") or "").split(";")]
    return any(is_token(value, token) for name, _, value in cookies if name == cookie_name(port))

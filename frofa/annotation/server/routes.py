"""The addresses of the labelling page, and the answer of each."""

import errno
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeAlias

from frofa.annotation.server.access import OneTimeCode, is_token
from frofa.annotation.server.answers import Answer, RefusedError, json_answer
from frofa.annotation.server.assets import read_assets
from frofa.annotation.server.pictures import KIND, Pictures
from frofa.annotation.server.requests import Request, check_post, cookie_name, has_token
from frofa.exceptions import ImageReadError, RequestError
from frofa.utils.json import parse_json
from frofa.utils.text import one_line

Respond: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
PAGE = "label.html"
PICTURE = re.compile(r"/(thumb|image)/(\d{1,9})", re.ASCII)
SIZE = re.compile(r"\d{1,4}", re.ASCII)
DEFAULT_SIZE = 256
NO_STORE = {"Cache-Control": "no-store"}
FOR_LONG = {"Cache-Control": "private, max-age=86400, immutable"}
"""Pictures whose address has a version (``v``) in it, which stands for the list of images."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_TOKEN = "expected the token: open the address that 'frofa label' printed."


@dataclass
class Routes:
    """The labelling page, its files, its pictures and its session, behind one token.

    Parameters
    ----------
    respond : callable
        Answers a request of the page, a dict, by a dict; see `frofa.annotation.respond`.
    pictures : Pictures
    token : str
    port : int
    """

    respond: Respond
    pictures: Pictures
    token: str
    port: int
    assets: dict[str, tuple[str, bytes]] = field(default_factory=read_assets)
    once: OneTimeCode = field(default_factory=OneTimeCode)

    def answer(self, request: Request, body: bytes) -> Answer:
        """Answer a request that was sent to this server from its own page, or by its user."""
        if request.path == "/favicon.ico":
            return Answer(HTTPStatus.NO_CONTENT)
        if request.path == "/" and not request.parameters.keys().isdisjoint(("token", "once")):
            return self._exchange(request)
        if not has_token(request, self.token, self.port):
            raise RefusedError(HTTPStatus.UNAUTHORIZED, NO_TOKEN)
        if request.path == "/api":
            return self._api(request, body)
        if request.method == "POST":
            raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "expected GET.", {"Allow": "GET, HEAD"})
        if picture := PICTURE.fullmatch(request.path):
            return self._picture(request, picture[1], int(picture[2]))
        return self._asset(PAGE if request.path == "/" else request.path.removeprefix("/assets/"))

    def _exchange(self, request: Request) -> Answer:
        """Take the token out of the address and into a cookie, which neither scripts nor other sites can use."""
        given = request.parameters
        known = "token" in given and is_token(given["token"], self.token)
        if request.method == "POST" or not (known or self.once.take(given.get("once", ""))):
            raise RefusedError(HTTPStatus.UNAUTHORIZED, NO_TOKEN)
        cookie = f"{cookie_name(self.port)}={self.token}; HttpOnly; SameSite=Strict; Path=/"
        return Answer(HTTPStatus.SEE_OTHER, headers={"Location": "/", "Set-Cookie": cookie, **NO_STORE})

    def _asset(self, name: str) -> Answer:
        if name not in self.assets:
            raise RefusedError(HTTPStatus.NOT_FOUND, "there is no such page.")
        kind, data = self.assets[name]
        return Answer(HTTPStatus.OK, kind, data, NO_STORE)

    def _picture(self, request: Request, kind: str, index: int) -> Answer:
        size = request.parameters.get("size", str(DEFAULT_SIZE))
        if not SIZE.fullmatch(size):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "expected a whole number of pixels as the size.")
        try:
            data = self.pictures.large(index) if kind == "image" else self.pictures.thumbnail(index, int(size))
        except IndexError as error:
            raise RefusedError(HTTPStatus.NOT_FOUND, str(error)) from error
        except ImageReadError as error:
            raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{error.name}: {error.reason}", NO_STORE) from error
        return Answer(HTTPStatus.OK, KIND, data, FOR_LONG if "v" in request.parameters else NO_STORE)

    def _api(self, request: Request, body: bytes) -> Answer:
        if request.method != "POST":
            raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "expected POST.", {"Allow": "POST"})
        check_post(request)
        try:
            asked = parse_json(body, RequestError)
            if not isinstance(asked, dict):
                raise RequestError(f"expected an object. Got {type(asked).__name__}.")
            found = self.respond(asked)
        except RequestError as error:
            raise RefusedError(HTTPStatus.BAD_REQUEST, one_line(error)) from error
        except OSError as error:
            status = HTTPStatus.INSUFFICIENT_STORAGE if error.errno in FULL else HTTPStatus.SERVICE_UNAVAILABLE
            raise RefusedError(status, f"the labels cannot be written: {error.strerror or one_line(error)}") from error
        return json_answer(found, headers=NO_STORE)

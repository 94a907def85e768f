"""Answers to requests, and the headers that every one of them has."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
"""The policy of the page: all of it comes from this server, and no script that stands in a page runs."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
JSON, TEXT = "application/json", "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """A status, the type of a body and the body, and headers besides `HEADERS`."""

    status: HTTPStatus
    kind: str = TEXT
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class RefusedError(Exception):
    """A request that is not answered: with which status, and a sentence that says why."""

    def __init__(self, status: HTTPStatus, reason: str, headers: Mapping[str, str] | None = None):
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers or {}

    def answer(self, *, as_text: bool = False) -> Answer:
        """Say why: in JSON, or as text where a person reads it."""
        if as_text:
            return Answer(self.status, TEXT, f"{self.reason}\n".encode(), self.headers)
        return json_answer({"error": self.reason}, self.status, self.headers)


def json_answer(content: Any, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Answer:
    """Answer in JSON of ASCII alone, in which names of files keep bytes that are no text."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    return Answer(status, JSON, body, headers or {})

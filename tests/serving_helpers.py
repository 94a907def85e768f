"""A labelling server in this process, and a client that sends it whatever a browser or an attacker could."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from frofa.annotation.server.access import Access, new_token
from frofa.annotation.server.folder import list_folder
from frofa.annotation.server.pictures import Pictures
from frofa.annotation.server.routes import Respond
from frofa.annotation.server.server import LabellingServer

POST: dict[str, Any] = {"Content-Type": "application/json", "X-Frofa": "1"}


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Requests to a server, with its cookie unless told otherwise."""

    def __init__(self, server: LabellingServer):
        self.server, self.port = server, server.port
        self.cookie = f"frofa-{server.port}={server.routes.token}"

    def send(
        self, method: str, target: str, body: bytes | None = None, *, cookie: bool = True, **headers: Any
    ) -> Reply:
        """Send a request; headers are given with underscores, and None leaves one out."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {"Host": f"127.0.0.1:{self.port}", **({"Cookie": self.cookie} if cookie else {}), **named}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            if body is not None and "Content-Length" not in sent:
                sent["Content-Length"] = str(len(body))
            for name, value in sent.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def get(self, target: str, **options: Any) -> Reply:
        return self.send("GET", target, **options)

    def ask(self, request: object, **options: Any) -> Reply:
        """Send an operation as the page does."""
        return self.send("POST", "/api", json.dumps(request).encode(), **{**POST, **options})

    def raw(self, data: bytes) -> bytes:
        """Send bytes, and read until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(data)
            received = b""
            try:
                while part := connection.recv(65536):
                    received += part
            except ConnectionError:  # closed with bytes that it did not read
                pass
            return received


def write_images(folder: Path, names: list[str], side: int = 24) -> Path:
    """Write images of different colours."""
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 255, (side, side, 3), np.uint8)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)
    return folder


@contextmanager
def serving(folder: Path, respond: Respond, **options: Any) -> Iterator[Client]:
    """Serve the images below a folder."""
    found = list_folder(folder)
    pictures = Pictures(found.root, found.names)
    options = {"report": lambda text: errors.append(text), **options}
    errors: list[str] = []
    with LabellingServer(respond, pictures, options.pop("access", Access(new_token())), **options) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Client(server)
        finally:
            server.shutdown()
            thread.join()
    assert not errors

"""What a page of another site, another user or a hostile file may try on the labelling server: all of it is refused."""

import json
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving_helpers import POST, Client, serving, write_images

from frofa.annotation.server import access as access_module
from frofa.annotation.server import server as server_module
from frofa.annotation.server.access import access_to
from frofa.annotation.server.folder import FolderImage, list_folder
from frofa.annotation.server.requests import LONGEST_BODY, LONGEST_HEADERS, LONGEST_LINE

NAMES = ["a.png", "b/c.png", "b/<img src=x onerror=alert(1)>.png", "x' \"y.png", "\udcff\u202e.png"]


def echo(request: dict[str, Any]) -> dict[str, Any]:
    return {"asked": request}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    folder = write_images(tmp_path / "images", NAMES)
    (tmp_path / "secret.png").write_bytes((folder / "a.png").read_bytes())
    with serving(folder, echo) as found:
        yield found


def test_the_page_answers_its_own_requests(client: Client) -> None:
    own = {"Origin": f"http://127.0.0.1:{client.port}", "Sec-Fetch-Site": "same-origin"}
    assert client.get("/thumb/0").status == 200
    assert client.ask({"op": "state"}, **own).json == {"asked": {"op": "state"}}
    assert client.get("/thumb/0", Host=f"localhost:{client.port}").status == 200
    assert client.get("/thumb/0", Host=f"LOCALHOST:{client.port}").status == 200


@pytest.mark.parametrize(
    "target",
    [
        "/../secret.png",
        "/assets/../secret.png",
        "/assets/..%2fsecret.png",
        "/assets/%2e%2e/%2e%2e/secret.png",
        "/assets//etc/passwd",
        "/assets/",
        "/assets/theme.css/",
        "/assets/THEME.CSS",
        "/assets/theme%2Ecss",
        "/assets/..\\..\\secret.png",
        "/thumb/../../secret.png",
        "/thumb/a.png",
        "/thumb/-1",
        "/thumb/99",
        "/thumb/0/../1",
        "/thumb/00000000000000000000001",
        "/thumb/%30",
        "/thumb/\u0661".encode().decode("latin-1"),
        "/image/99",
        "/image/",
        "/images/a.png",
        "/labels.csv",
        "//127.0.0.1/../secret.png",
        "/a.png",
        "/.%00/secret.png",
    ],
)
def test_no_path_of_a_request_opens_a_file(client: Client, target: str) -> None:
    try:
        reply = client.get(target)
    except UnicodeEncodeError:
        reply = None
        answer = client.raw(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nCookie: {client.cookie}\r\n"
            "Connection: close\r\n\r\n".encode("latin-1")
        )
        assert b" 404 " in answer
    if reply is not None:
        assert reply.status == 404
        assert not reply.body.startswith(b"RIFF")


def test_links_that_lead_out_of_the_folder_are_neither_listed_nor_served(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", ["a.png", "sub/b.png"])
    write_images(tmp_path, ["secret.png", "other/c.png"])
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    (folder / "up.png").symlink_to("../secret.png")
    (folder / "lost.png").symlink_to("nowhere.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "dir").symlink_to(tmp_path / "other")
    (folder / "in.png").symlink_to("sub/b.png")
    os.mkfifo(folder / "pipe.png")
    found = list_folder(folder)
    assert found.names == ["a.png", "in.png", "sub/b.png"]
    assert "5 links left out" in found.notes[0]
    # The name of a folder may itself be a link, and one that begins alike is another one.
    (tmp_path / "images2").mkdir()
    write_images(tmp_path / "images2", ["d.png"])
    (folder / "alike.png").symlink_to(tmp_path / "images2" / "d.png")
    (tmp_path / "alias").symlink_to(folder)
    assert list_folder(tmp_path / "alias") == list_folder(folder)
    assert "alike.png" not in list_folder(folder).names


def test_a_file_that_became_a_link_later_is_not_served(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", ["a.png", "sub/b.png", "c.png"])
    write_images(tmp_path, ["secret.png", "other/b.png"])
    with serving(folder, echo) as client:
        assert client.get("/thumb/0").status == 200
        (folder / "a.png").unlink()
        (folder / "a.png").symlink_to(tmp_path / "secret.png")
        (folder / "sub" / "b.png").unlink()
        (folder / "sub").rmdir()
        (folder / "sub").symlink_to(tmp_path / "other")
        (folder / "c.png").unlink()
        os.mkfifo(folder / "c.png")
        for index, name in enumerate(["a.png", "c.png", "sub/b.png"]):
            reply = client.get(f"/image/{index}")
            assert reply.status == 422
            assert reply.json["error"].startswith(name)
    with pytest.raises(OSError, match="outside"):
        FolderImage(str(folder.resolve()), "../secret.png").read()


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "http://localhost:{port}", ""],
)
def test_other_origins_are_refused(client: Client, origin: str) -> None:
    headers = {"Origin": origin.format(port=client.port)}
    for reply in (client.ask({"op": "state"}, **headers), client.get("/thumb/0", **headers)):
        assert reply.status == 403
        assert b"state" not in reply.body


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
def test_requests_that_another_site_makes_are_refused(client: Client, site: str) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    token = client.cookie.partition("=")[2]
    for target in ("/thumb/0", "/image/0", "/", f"/?token={token}"):
        assert client.get(target, **headers).status == 403
    assert client.ask({"op": "state"}, **headers).status == 403
    link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    # A link on a page of another port of this machine leads here; nothing else of it does.
    assert client.get(f"/?token={token}", **link).status == (303 if site == "same-site" else 403)
    assert client.get("/thumb/0", **link).status == 403


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "localhost"),
        *("127.0.0.1.evil.example:{port}", "0.0.0.0:{port}", "[::1]:{port}", "2130706433:{port}", "127.1:{port}"),
        *("localhost.:{port}", "", None),
    ],
)
def test_names_of_other_hosts_that_lead_here_are_refused(client: Client, host: str | None) -> None:
    """DNS rebinding: a name of the attacker's that resolves to this machine makes the attacker's page our origin."""
    name = None if host is None else host.format(port=client.port)
    token = client.cookie.partition("=")[2]
    for target in ("/", f"/?token={token}", "/thumb/0"):
        reply = client.get(target, Host=name)
        assert reply.status == 403
        assert "Set-Cookie" not in reply.headers
    assert client.ask({"op": "state"}, Host=name, Origin=f"http://{name}").status == 403


def test_two_hosts_are_none(client: Client) -> None:
    lines = (
        f"GET /thumb/0 HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nHost: evil.example\r\nCookie: {client.cookie}\r\n"
    )
    assert client.raw(f"{lines}\r\n".encode()).startswith(b"HTTP/1.1 400 ")
    target = f"GET http://evil.example/thumb/0 HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nConnection: close\r\n"
    assert b" 401 " in client.raw(f"{target}\r\n".encode()).splitlines()[0]


def test_nothing_is_shown_without_the_token(client: Client) -> None:
    token = client.cookie.partition("=")[2]
    assert len(token) == 43
    wrong = [token[:-1], token[:-1] + ("a" if token[-1] != "a" else "b"), token.lower(), "", token + "=", "\u00e9"]
    for target in ("/", "/thumb/0", "/image/0", "/assets/theme.css", "/nothing"):
        assert client.get(target, cookie=False).status == 401
        for one in wrong:
            cookie = f"frofa-{client.port}={one}".encode().decode("latin-1")
            assert client.get(target, cookie=False, Cookie=cookie).status == 401
        assert client.get(target, cookie=False, Cookie=f"frofa-1={token}").status == 401
    for one in wrong[:4]:
        assert client.get(f"/?token={one}", cookie=False).status == 401
    assert client.get(f"/thumb/0?token={token}", cookie=False).status == 401
    assert client.ask({"op": "state"}, cookie=False).status == 401


def test_the_token_becomes_a_cookie(client: Client) -> None:
    token = client.cookie.partition("=")[2]
    reply = client.get(f"/?token={token}", cookie=False)
    assert (reply.status, reply.headers["Location"], reply.body) == (303, "/", b"")
    assert reply.headers["Set-Cookie"] == f"{client.cookie}; HttpOnly; SameSite=Strict; Path=/"
    assert reply.headers["Referrer-Policy"] == "no-referrer"
    # Cookies of other programs on other ports come along, however odd they are.
    assert client.get("/thumb/0", cookie=False, Cookie=f'a; b="; =; _xsrf=2|3[];{client.cookie}; z').status == 200


def test_the_address_that_a_browser_is_started_with_works_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("/?once=", cookie=False).status == 401
    once = client.server.one_time_url().partition("?")[2]
    assert client.cookie.partition("=")[2] not in once
    assert client.get(f"/?{once}a", cookie=False).status == 401
    for status in (303, 401):
        reply = client.get(f"/?{once}", cookie=False)
        assert reply.status == status
    monkeypatch.setattr(access_module, "CODE_SECONDS", -1.0)
    late = client.server.one_time_url().partition("?")[2]
    assert client.get(f"/?{late}", cookie=False).status == 401


def test_a_form_of_another_site_cannot_post(client: Client) -> None:
    body = b'{"op": "state"}'
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json", "", None):
        assert client.send("POST", "/api", body, **{**POST, "Content-Type": kind}).status == 415
    assert client.send("POST", "/api", body, **{**POST, "X-Frofa": None}).status == 403
    assert (
        client.send("POST", "/api", body, **{**POST, "Content-Type": "application/json; charset=utf-8"}).status == 200
    )
    preflight = client.send("OPTIONS", "/api", Origin="http://evil.example", Access_Control_Request_Method="POST")
    assert preflight.status == 405
    assert not [name for name in preflight.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "get", "X"])
def test_other_methods_are_refused(client: Client, method: str) -> None:
    assert client.send(method, "/thumb/0").status == 405


def test_reading_does_not_change_and_posting_does_not_read(client: Client) -> None:
    assert client.get("/api").status == 405
    assert client.send("POST", "/thumb/0", b"{}", **POST).status == 405
    assert client.send("GET", "/thumb/0", b"{}").status == 400
    head = client.send("HEAD", "/thumb/0")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["Content-Length"]) > 10


def test_oversized_requests_are_refused(client: Client) -> None:
    assert client.get("/" + "a" * LONGEST_LINE).status == 414
    assert client.get("/thumb/0", X_Long="a" * LONGEST_LINE).status == 431
    many = {f"X_{i}": "a" * 1000 for i in range(LONGEST_HEADERS // 1000 + 10)}
    assert client.get("/thumb/0", **many).status == 431
    assert client.get("/thumb/0", **{f"X_{i}": "" for i in range(120)}).status == 431
    assert client.send("POST", "/api", b"x", Content_Length=str(LONGEST_BODY + 1), **POST).status == 413
    assert client.send("POST", "/api", b"x", Content_Length="9" * 18, **POST).status == 413
    assert client.get("/thumb/0?" + "&".join("size=1" for _ in range(50))).status == 400
    assert client.get("/thumb/0?size=99999").status == 400
    assert client.get("/thumb/0?size=9999").status == 200  # the largest size that there is
    assert client.get("/thumb/0").status == 200


@pytest.mark.parametrize("length", ["-1", "+1", "1 1", "1e3", "0x10", "\u0661", "9" * 30, "1, 1", ""])
def test_odd_lengths_are_refused(client: Client, length: str) -> None:
    text = length.encode().decode("latin-1")
    assert client.send("POST", "/api", b"{}", Content_Length=text, **POST).status == 400


def test_no_second_request_hides_in_a_body(client: Client) -> None:
    hidden = f"POST /api HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\nCookie: {client.cookie}\r\n"
    head = f"POST /api HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
    for framing in (
        "Transfer-Encoding: chunked\r\n",
        f"Content-Length: {len(hidden)}\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Expect: 100-continue\r\nContent-Length: 5\r\n",
        "",
    ):
        answer = client.raw(f"{head}{framing}\r\n{hidden}\r\n".encode())
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.split()[1] in (b"400", b"411", b"417", b"501")


@pytest.mark.parametrize(
    "data",
    [
        *(b"\r\n\r\n", b"GET /\r\n\r\n", b"nonsense\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/x\r\n\r\n"),
        *(b"\0" * 99, b"GET / / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost", b""),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",  # as browsers begin https
    ],
)
def test_what_is_no_http_ends_the_connection(client: Client, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert b"RIFF" not in answer
    assert b"<" not in answer.partition(b"\r\n\r\n")[2]
    assert client.get("/thumb/0").status == 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"1", b'"a"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 200 + b"1" + b"}" * 200]
)
def test_what_is_no_json_object_is_refused(client: Client, body: bytes) -> None:
    reply = client.send("POST", "/api", body, **POST)
    assert reply.status == 400
    assert set(reply.json) == {"error"}


def test_every_answer_has_the_headers_of_security(client: Client) -> None:
    found = [client.get("/thumb/0"), client.get("/nothing"), client.get("/", cookie=False), client.ask({"op": "state"})]
    found += [client.get("/", Host="evil"), client.get("/" + "a" * LONGEST_LINE), client.get("/favicon.ico")]
    for reply in found:
        policy = dict(part.split(" ", 1) for part in reply.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert "unsafe" not in str(policy)
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert "Python" not in reply.headers["Server"]


def test_names_are_never_interpreted(client: Client, tmp_path: Path) -> None:
    names = list_folder(tmp_path / "images").names
    assert sorted(names) == sorted(NAMES)
    evil = next(i for i, name in enumerate(names) if "onerror" in name)
    (tmp_path / "images" / names[evil]).write_bytes(b"<script>alert(1)</script>")
    reply = client.get(f"/thumb/{evil}")
    assert (reply.status, reply.headers["Content-Type"]) == (422, "application/json")
    # What is no text stays what it is, on the way there and back.
    asked = {"path": "b\udcff\u2028</script>.png"}
    assert client.ask(asked).json == {"asked": asked}


def test_pictures_are_made_anew_without_what_files_hide(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", ["a.jpg"])
    with (folder / "a.jpg").open("ab") as file:
        file.write(b"<html><script>alert(1)</script>")
    (folder / "b.svg.png").write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    with serving(folder, echo) as client:
        reply = client.get("/image/0")
        assert (reply.headers["Content-Type"], reply.body[:4]) == ("image/webp", b"RIFF")
        assert b"script" not in reply.body
        assert client.get("/image/1").status == 422


def test_the_server_listens_to_this_machine_alone(client: Client) -> None:
    with socket.socket() as other:
        # Of all addresses of this machine, one is taken.
        other.bind(("127.0.0.2", client.port))


def test_slow_and_many_connections_do_not_keep_others_out(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as slow:
        slow.sendall(b"GET /thumb/0 HT")
        assert slow.recv(100) == b""
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 60.0)
    many = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(server_module.MOST_CONNECTIONS + 5)]
    try:
        many[-1].settimeout(20)
        assert many[-1].recv(1) == b""
    finally:
        for connection in many:
            connection.close()
    for _ in range(100):
        try:
            if client.get("/thumb/0").status == 200:
                break
        except ConnectionError:
            time.sleep(0.05)
    else:
        pytest.fail("the server did not recover")


def test_token_and_port_are_kept_for_their_user_alone(tmp_path: Path) -> None:
    labels, cache = tmp_path / "labels.csv", tmp_path / "cache"
    first = access_to(labels, cache)
    first.keep(4321)
    file = next(cache.glob("*.json"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    # A second server for the same labels has an address of its own, and leaves that of the first alone.
    second = access_to(labels, cache)
    second.keep(1234)
    assert second.token != first.token
    first.release()
    again = access_to(labels, cache)
    assert (again.token, again.port) == (first.token, 4321)
    again.release()
    assert access_to(tmp_path / "other.csv", cache).token != first.token


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"token": "short", "port": 1}', '{"token": 1, "port": 1}', '{"token": "TOKEN", "port": 0}'],
)
def test_a_kept_token_that_others_may_know_or_made_up_is_not_used(tmp_path: Path, content: str) -> None:
    labels, cache = tmp_path / "labels.csv", tmp_path / "cache"
    first = access_to(labels, cache)
    first.keep(4321)
    first.release()
    file = next(cache.glob("*.json"))
    kept = file.read_text()
    file.write_text(content.replace("TOKEN", first.token))
    renewed = access_to(labels, cache)
    assert renewed.token != first.token
    renewed.release()
    file.write_text(kept)
    file.chmod(0o644)
    renewed = access_to(labels, cache)
    assert renewed.token != first.token
    renewed.release()
    file.rename(cache / "moved")
    (cache / "moved").chmod(0o600)
    file.symlink_to("moved")
    assert access_to(labels, cache).token != first.token


def test_the_same_address_works_after_a_restart(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", ["a.png"])
    addresses = []
    for _ in range(2):
        access = access_to(tmp_path / "labels.csv", tmp_path / "cache")
        with serving(folder, echo, access=access) as client:
            addresses.append((client.port, client.cookie))
            assert client.get("/thumb/0").status == 200
    assert addresses[0] == addresses[1]


def test_a_port_that_is_taken_is_an_error_if_it_was_asked_for(client: Client, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=f"port {client.port}"), serving(tmp_path, echo, port=client.port):
        pass
    access = access_to(tmp_path / "labels.csv", tmp_path / "cache")
    access.port = client.port
    with serving(tmp_path, echo, access=access) as other:
        assert other.port != client.port


def test_an_error_of_the_session_names_no_inside(tmp_path: Path) -> None:
    errors: list[str] = []

    def fail(request: dict[str, Any]) -> dict[str, Any]:
        raise KeyError(f"secret of {request}")

    with serving(write_images(tmp_path, ["a.png"]), fail, report=errors.append) as client:
        reply = client.ask({"op": "state"})
    assert reply.status == 500
    assert b"secret" not in reply.body
    assert "secret" in errors[0]
    assert json.loads(reply.body)

"""Pages of other sites in a real browser, which has the labelling page open beside them: they get nothing of it."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser
from serving_helpers import Client, serving, write_images

EVIL = """<!doctype html><title>evil</title><script>
const target = "TARGET", found = {};
const image = new Promise(done => {
  const picture = new Image();
  picture.onload = () => done("loaded");
  picture.onerror = () => done("refused");
  picture.src = target + "/thumb/0";
});
const script = new Promise(done => {
  const element = document.createElement("script");
  element.onload = () => done("loaded");
  element.onerror = () => done("refused");
  element.src = target + "/assets/label.js";
  document.head.append(element);
});
const read = fetch(target + "/api", {method: "POST", credentials: "include", body: '{"op": "state"}',
  headers: {"Content-Type": "application/json", "X-Frofa": "1"}}).then(() => "answered", () => "refused");
const blind = fetch(target + "/api", {method: "POST", credentials: "include", mode: "no-cors",
  body: '{"op": "label"}', headers: {"Content-Type": "text/plain"}}).then(() => "sent", () => "refused");
const frame = new Promise(done => {
  const element = document.createElement("iframe");
  element.onload = () => {
    let seen;
    try { seen = element.contentDocument?.body?.textContent; } catch {}
    done(seen || "nothing");
  };
  element.src = target + "/";
  document.documentElement.append(element);
});
function submit() {
  const form = document.createElement("form");
  form.method = "post"; form.enctype = "text/plain"; form.action = target + "/api";
  const field = document.createElement("input");
  field.name = '{"op": "label", "x": "'; field.value = '"}';
  form.append(field); document.documentElement.append(form); form.submit();
}
window.attack = Promise.all([image, script, read, blind, frame]);
</script>"""


@contextmanager
def evil_site(target: str) -> Iterator[int]:
    """Serve the attacker's page on another port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(EVIL.replace("TARGET", target).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def asked() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def client(tmp_path: Path, asked: list[dict[str, Any]]) -> Iterator[Client]:
    def respond(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return {}

    with serving(write_images(tmp_path, ["a.png"]), respond) as found:
        yield found


@pytest.fixture(scope="module")
def rebound(chromium: Browser) -> Iterator[Browser]:
    """A browser in which a name of the attacker's leads to this machine."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    rules = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    browser = chromium.browser_type.launch(executable_path=path, args=["--no-sandbox", rules])
    yield browser
    browser.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "evil.example"])
def test_a_page_of_another_site_gets_nothing(
    rebound: Browser, client: Client, asked: list[dict[str, Any]], host: str
) -> None:
    context = rebound.new_context()
    page = context.new_page()
    page.goto(client.server.url)
    assert "token" not in page.url
    page.goto("about:blank")
    asked.clear()
    with evil_site(f"http://127.0.0.1:{client.port}") as port:
        page.goto(f"http://{host}:{port}/")
        image, script, read, _, frame = page.evaluate("window.attack")
        assert (image, script, read, frame) == ("refused", "refused", "refused", "nothing")
        with page.expect_navigation() as posted:
            page.evaluate("submit()")
        assert posted.value
        assert posted.value.status == 403
    # A name that leads to this very server makes the attacker's page no page of ours.
    reply = page.goto(f"http://evil.example:{client.port}/?token={client.server.routes.token}")
    assert reply
    assert reply.status == 403
    assert [cookie["domain"] for cookie in context.cookies()] == ["127.0.0.1"]
    assert asked == []
    context.close()


def test_scripts_and_styles_in_the_page_do_not_run(chromium: Browser, client: Client) -> None:
    page = chromium.new_context().new_page()
    page.goto(client.server.url)
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.pwned = true";
          document.body.append(script);
          document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.pwned = true'>");
          const elsewhere = document.createElement("img");
          elsewhere.src = "http://127.0.0.1:1/x.png";
          document.body.append(elsewhere);
        }"""
    )
    page.wait_for_timeout(300)
    assert page.evaluate("window.pwned") is None
    page.context.close()


def test_the_cookie_is_out_of_reach_of_scripts_and_survives_a_reload(chromium: Browser, client: Client) -> None:
    page = chromium.new_context().new_page()
    page.goto(client.server.url)
    assert page.evaluate("document.cookie") == ""
    reply = page.reload()
    assert reply
    assert reply.status == 200
    assert "label.js" in page.content()
    page.context.clear_cookies()
    reply = page.reload()
    assert reply
    assert reply.status == 401
    assert "frofa label" in page.content()
    page.context.close()

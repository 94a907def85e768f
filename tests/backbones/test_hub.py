"""Models of the hub where there may be no network: cached ones load, others are refused at once."""

import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from frofa.backbones.checkpoints.hub import Reachability, cached_models, may_be_cached, offline
from frofa.backbones.checkpoints.timm_names import may_be_known
from frofa.backbones.loading import load_backbone
from frofa.cli import main
from frofa.exceptions import ModelNotFoundError

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache of the hub, which is not switched off and cannot be reached."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", NOBODY)
    monkeypatch.delenv("HF_HUB_ETAG_TIMEOUT", raising=False)
    return tmp_path / "hub"


@pytest.fixture
def answering() -> Iterator[Callable[[int], str]]:
    """A function that starts a server which answers with a status, and returns its address."""
    servers = []

    def serve(status: int) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def put_into_cache(folder: str, cache: Path, repository: str, *, weights: bool = True) -> None:
    """Files of a ``local-dir:`` model as the hub's client keeps those of a repository."""
    entry = cache / f"models--{repository.replace('/', '--')}"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text("0" * 40)
    snapshot = Path(shutil.copytree(folder.removeprefix("local-dir:"), entry / "snapshots" / ("0" * 40)))
    if not weights:
        (snapshot / "model.safetensors").unlink()


@pytest.mark.parametrize("status", [200, 307, 401, 404])
def test_a_hub_that_answers_can_be_reached(
    status: int, answering: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", answering(status))
    assert Reachability().fault() is None


@pytest.mark.parametrize("status", [407, 502, 503])
def test_a_proxy_or_a_hub_that_refuses(
    status: int, answering: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", answering(status))
    assert Reachability().fault() == f"it answers with status {status}"


@pytest.mark.parametrize("endpoint", [NOBODY, "http://no-such-host.invalid"])
def test_a_hub_that_cannot_be_reached(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    fault = Reachability().fault()
    assert fault is not None
    assert "Connect" in fault


def test_a_hub_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", "0.2")
        fault = Reachability().fault()
    assert fault is not None
    assert fault.startswith("no answer within 0.2 seconds (HF_HUB_ETAG_TIMEOUT=30 waits longer")


def test_nothing_is_asked_where_the_user_is_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert Reachability().fault() == "HF_HUB_OFFLINE is set"


def test_the_hubs_client_is_offline_for_a_moment() -> None:
    with offline():
        assert constants.HF_HUB_OFFLINE
    assert not constants.HF_HUB_OFFLINE


def test_a_cached_model_loads_without_a_network(small_vit: str, cache: Path) -> None:
    put_into_cache(small_vit, cache, "me/small")
    expected = load_backbone(small_vit, None, "cpu").weights_digest
    assert load_backbone("hf-hub:me/small", None, "cpu").weights_digest == expected
    assert cached_models() == ["me/small"]


def test_a_model_of_which_a_part_is_cached_is_refused(small_vit: str, cache: Path) -> None:
    put_into_cache(small_vit, cache, "me/part", weights=False)
    put_into_cache(small_vit, cache, "timm/whole.in1k")
    with pytest.raises(
        ModelNotFoundError, match=r"its weights are not on this machine, and .* Hub cannot be"
    ) as caught:
        load_backbone("hf-hub:me/part", None, "cpu")
    assert "In the cache of this machine: timm/whole.in1k. " in str(caught.value)
    assert may_be_cached("hf-hub:me/part")
    assert may_be_cached("whole")
    assert not may_be_cached("hf-hub:me/other")


def test_models_lists_what_is_cached(small_vit: str, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put_into_cache(small_vit, cache, "timm/whole.in1k")
    put_into_cache(small_vit, cache, "me/small")
    assert main(["models"]) == 0
    assert "offline:\n  hf-hub:me/small\n  whole.in1k\n" in capsys.readouterr().out


NAMES = {
    "vit_tiny_patch16_224.augreg_in21k": "its weights are not on this machine, and the Hugging Face Hub cannot be",
    "vit_tiny_patch16_244": "Unknown model (vit_tiny_patch16_244). Close timm names: vit_tiny_patch16_224",
    "vit_tiny_patch16_224.augreg_in12k": "Close timm names: vit_tiny_patch16_224.augreg_in21k",
    "hf-hub:nobody/nothing": "its weights are not on this machine, and the Hugging Face Hub cannot be",
}


def test_names_are_refused_before_timm_is_imported(cache: Path) -> None:
    code = (
        "import sys\n"
        "from frofa.backbones.loading import load_backbone\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        load_backbone(name, None, 'cpu')\n"
        "    except OSError as error:\n"
        "        print(error)\n"
        "assert 'timm' not in sys.modules\n"
    )
    where = {"HF_ENDPOINT": NOBODY, "HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": str(cache), "TORCH_HOME": str(cache)}
    done = subprocess.run([sys.executable, "-c", code, *NAMES], capture_output=True, text=True, env=os.environ | where)
    assert done.returncode == 0, done.stderr
    for name, line in zip(NAMES, done.stdout.splitlines(), strict=True):
        assert repr(name) in line
        assert NAMES[name] in line
        assert "frofa/vit_tiny_tin200" in line


def test_models_needs_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from frofa.cli.models import _list; from argparse import Namespace; _list(Namespace(name=None));"
    )
    code += "assert not {'torch', 'timm', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k", "soft_moe_vit_base_patch16", "vit_base_patch16_224"])
def test_names_that_timm_has_may_be_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert may_be_known(name)
    monkeypatch.delitem(sys.modules, "timm")
    assert may_be_known(name)
    assert not may_be_known(f"no_{name}")

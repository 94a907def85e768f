"""Whether the Hugging Face hub can be reached, and what of it is on this machine: known before its client waits.

The client tries each file several times, which takes a minute where there is no network.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECONDS = 1.5
"""Seconds that the hub may take to answer, unless HF_HUB_ETAG_TIMEOUT says otherwise: a user waits for it."""
_OVERLOADED, _PROXY_REFUSES = 500, 407


class Reachability:
    """Ask the hub for an answer, in a thread; begun at once, so that imports go on meanwhile.

    Nothing is asked where ``HF_HUB_OFFLINE`` is set.
    """

    def __init__(self) -> None:
        self._seconds = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or SECONDS)
        self._fault: str | None = (
            f"no answer within {self._seconds:g} seconds (HF_HUB_ETAG_TIMEOUT=30 waits longer, for a slow network)"
        )
        # No timeout of a client bounds the time that a name server takes.
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def fault(self) -> str | None:
        """Wait for the answer; say why the hub cannot be reached, or None if it can."""
        self._thread.join(self._seconds)
        return self._fault

    def _ask(self) -> None:
        from huggingface_hub import constants, get_session

        if constants.HF_HUB_OFFLINE:
            self._fault = "HF_HUB_OFFLINE is set"  # or TRANSFORMERS_OFFLINE
            return
        try:
            status = get_session().head(constants.ENDPOINT, timeout=self._seconds).status_code
        except Exception as error:  # the client's own, of one library or another
            if "Timeout" not in type(error).__name__:
                self._fault = f"{type(error).__name__}: {error}"
            return
        # Any other answer, of a page that is not there, too, shows that the hub can be reached.
        refused = status >= _OVERLOADED or status == _PROXY_REFUSES
        self._fault = f"it answers with status {status}" if refused else None


@contextmanager
def offline() -> Iterator[None]:
    """Let the hub's client take what is in its cache, and fail at once for what is not."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def may_be_cached(name: str) -> bool:
    """False if no weights of a timm name, or of ``hf-hub:OWNER/NAME``, are on this machine for certain.

    Of timm's names, some are of other owners than ``timm``, under names of their own.
    """
    from huggingface_hub import constants

    # Folders of the cache are called models--OWNER--NAME; of a timm name, the part before the tag is in it.
    is_repository = name.startswith("hf-hub:")
    part = name.removeprefix("hf-hub:").partition("@")[0].replace("/", "--")
    part = part if is_repository else part.partition(".")[0]
    folders = [folder.name for folder in Path(constants.HF_HUB_CACHE).glob("models--*")]
    if any(part in folder or not (is_repository or folder.startswith("models--timm--")) for folder in folders):
        return True
    return not is_repository and any(_torch_cache().glob("*"))


def _torch_cache() -> Path:
    """Find the folder of what timm downloads from other places; PyTorch takes long to import only to be asked."""
    if "torch" in sys.modules:
        return Path(sys.modules["torch"].hub.get_dir()) / "checkpoints"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("TORCH_HOME") or f"{cache}/torch").expanduser() / "hub" / "checkpoints"


def cached_models() -> list[str]:
    """Models whose weights are in the hub's cache, as ``OWNER/NAME``."""
    from huggingface_hub import constants

    found = []
    for folder in sorted(Path(constants.HF_HUB_CACHE).glob("models--*--*")):
        files = folder.glob("snapshots/*/*")
        if any(file.suffix in (".safetensors", ".bin") and file.exists() for file in files):
            found.append(folder.name.removeprefix("models--").replace("--", "/", 1))
    return found

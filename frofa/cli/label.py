"""``frofa label``: a page on which images are labelled, and which trains meanwhile."""

import argparse
import os
import signal
import sys
import threading
import time
import warnings
import webbrowser
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frofa.cli.console import note, say, warn
from frofa.cli.features import extraction_parameters
from frofa.cli.options import (
    EPILOG,
    Commands,
    add_shared,
    check_in,
    check_out,
    finish,
    no_images,
    positive,
    seed,
    whole,
)
from frofa.exceptions import SkippedImagesWarning

if TYPE_CHECKING:
    from frofa.annotation.background import BackgroundFeatures, FeatureSource
    from frofa.annotation.server.folder import Folder
    from frofa.annotation.server.server import LabellingServer
    from frofa.annotation.session import LabellingSession

EXTRACTION = ("--model", "--store", "--rehash", "--image-size", "--background", "--batch-size", "--device", "--n-jobs")
COMPUTING = ("frofa-features", "frofa-labelling")
"""Names of threads that compute features, and learn."""
CLOSING_SECONDS = 1.0
"""Time that features get for coming to an end; what is lost is computed again."""
QUIET_SECONDS = 0.5
"""Time after a picture without another by which the page is taken to be there."""
PATIENCE_SECONDS = 15.0
"""Time after which features are computed whether anybody has opened the page or not."""


def add(commands: Commands) -> None:
    """Add the sub-command."""
    parser = commands.add_parser(
        "label",
        help="label images on a page in the browser, which learns meanwhile",
        description="Serve a page to this machine alone, on which the images below DIRECTORY are labelled by keys. It "
        "shows the most useful images first, trains while you label, and says how accurate it is, how many more labels "
        "it takes, and which labels look wrong. Each decision is a row of a CSV file, which is on disk before the page "
        "says so, and which 'frofa fit' reads. Ctrl+C ends it; the same command goes on, at the same address.",
        epilog=EPILOG,
    )
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="images, in any directories below it")
    parser.add_argument(
        "--out", type=Path, metavar="FILE.csv", help="file of labels, appended to (default: DIRECTORY/labels.csv)"
    )
    parser.add_argument(
        "--folders",
        action="store_true",
        help="take the directory in DIRECTORY that an image lies in as its label, unless it has one",
    )
    add_shared(parser, *EXTRACTION)
    parser.add_argument(
        "--views", type=positive, default=1, metavar="N", help="views of each image (default: %(default)s)"
    )
    parser.add_argument(
        "--no-mirror", dest="mirror", action="store_false", help="take no mirror images as views, as for letters"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the first images that are shown (default: 0)")
    parser.add_argument(
        "--port", type=whole(0, 65535), default=0, help="port on 127.0.0.1 (default: that of last time, or any)"
    )
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="open no browser")
    finish(parser, _run)
    parser.set_defaults(fail_fast=False)


def _run(args: argparse.Namespace) -> int:
    check_in(args.directory, "directory")
    if not args.directory.is_dir():
        raise NotADirectoryError(f"expected a directory of images. Got {args.directory}.")
    out = args.out or args.directory / "labels.csv"
    check_out(out, suffix=".csv")
    folder = _list(args.directory)
    # Nothing that takes seconds to import: PyTorch comes when the page is there.
    with ExitStack() as stack:
        features = _features(folder, args)
        stack.callback(features.close, CLOSING_SECONDS)
        session = _session(folder, out, features, args)
        stack.callback(session.close)
        server = stack.enter_context(_server(folder, out, session, args.port))
        _serve(server, session, features, args)
    _leave_threads()
    return 0


def _list(directory: Path) -> "Folder":
    from frofa.annotation.server.folder import list_folder
    from frofa.images.listing import count

    folder = list_folder(directory)
    for left_out in folder.notes:
        note(left_out)
    if not folder.names:
        raise no_images([directory])
    note(f"{count(len(folder.names), 'image')} in {directory}")
    return folder


def _features(folder: "Folder", args: argparse.Namespace) -> "BackgroundFeatures":
    from frofa.annotation.background import BackgroundFeatures

    parameters = {**extraction_parameters(args), "n_views": args.views, "mirror": args.mirror}
    # The page names the images that cannot be read. Filters belong to all threads, so that this is set once.
    warnings.simplefilter("ignore", SkippedImagesWarning)
    source = partial(_source, folder, parameters)
    return BackgroundFeatures(len(folder.names), source, random_state=args.seed, report=warn)


def _source(folder: "Folder", parameters: dict[str, Any]) -> "FeatureSource":
    from frofa.annotation.extracting import ExtractorSource

    return ExtractorSource([str(folder.root / name) for name in folder.names], parameters)


def _session(
    folder: "Folder", out: Path, features: "BackgroundFeatures", args: argparse.Namespace
) -> "LabellingSession":
    from frofa.annotation.records.file import LabelFile
    from frofa.annotation.server.folder import classes_of_folders
    from frofa.annotation.session import Labelling, LabellingSession

    records = LabelFile(out)
    session = LabellingSession(folder.root, folder.names, records, features, random_state=args.seed)
    for mended in records.notes:
        note(mended)
    classes = classes_of_folders(folder.names)
    if args.folders:
        known = {row.path for row in session.history.rows}  # also those whose label was taken back
        new = [i for i, name in enumerate(classes) if name and session.paths[i] not in known]
        session.decide([Labelling(session.paths[i], classes[i], "folder") for i in new])
        note(f"{len(new)} labels taken from the names of directories")
    elif len(set(classes)) > 2 and not session.classes:
        note("the images lie in several directories: --folders takes their names as labels")
    return session


def _server(folder: "Folder", out: Path, session: "LabellingSession", port: int) -> "LabellingServer":
    from frofa.annotation.respond import respond
    from frofa.annotation.server.access import access_to
    from frofa.annotation.server.pictures import Pictures
    from frofa.annotation.server.server import LabellingServer

    pictures = Pictures(folder.root, folder.names)
    return LabellingServer(partial(respond, session), pictures, access_to(out), port, report=warn)


def _serve(
    server: "LabellingServer", session: "LabellingSession", features: "BackgroundFeatures", args: argparse.Namespace
) -> None:
    """Serve until Ctrl+C, or the end that a system asks for; all labels are on disk at any time."""
    say(f"label at {server.url}\nlabels go to {session.records.file}; Ctrl+C ends")
    starter = threading.Thread(target=_start_learning, args=(server, session, features), daemon=True)
    starter.start()
    if args.browser:
        threading.Thread(target=_open_browser, args=(server,), daemon=True).start()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with suppress(KeyboardInterrupt, SystemExit):
        server.serve_forever(poll_interval=0.25)
    note(f"{session.records.file} has all labels")


def _start_learning(server: "LabellingServer", session: "LabellingSession", features: "BackgroundFeatures") -> None:
    """Compute features once the page is there: importing PyTorch keeps all threads from their work for a second."""
    labelled = [i for i in range(len(session.paths)) if session.decision(i).label]
    features.want(labelled)
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_SECONDS:
        if server.last_picture and time.monotonic() - server.last_picture > QUIET_SECONDS:
            break
        time.sleep(0.1)
    features.start()
    session.start()


def _leave_threads() -> None:
    """End the process if a thread still computes: all is on disk, and PyTorch must not be taken down under it."""
    if any(thread.name in COMPUTING for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(0)


def _open_browser(server: "LabellingServer") -> None:
    with suppress(webbrowser.Error):
        browser = webbrowser.get()
        # A browser of text would take over the terminal.
        if type(browser) is not webbrowser.GenericBrowser:
            browser.open(server.one_time_url())

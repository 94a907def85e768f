"""Writes ``before_packages/VERSION`` with the version of frofa that is imported; how the files there were made.

They are of two versions from before frofa's modules became packages: ``0.1.0`` as it was finished (commit 3ab6bbb), and
``0.2.0`` of the last commit with flat modules (57fc5a7). With a checkout of one of these, which is imported:

    PYTHONPATH=CHECKOUT python tests/data/make_fixtures.py

What is written is not written again by later versions, which only read it (``test_older_files.py``).
"""

import json
import os
import shutil
import sys
import tarfile
import warnings
import zipfile
from hashlib import blake2b
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from PIL import Image

import frofa
from frofa import FeatureStore

FOLDER = Path(__file__).parent / "before_packages"
OF_EXTRACTORS = ("pipeline", "encoder", "archive")
"""Searches over pipelines that begin with an extractor."""
OUTPUTS = ("encoder", "mean", "tokens", "ragged")


def write_inputs() -> None:
    """Write what all versions are given: arrays, archives of images, a video of two frames and an ONNX model."""
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(24, 16, 8)) + np.repeat(np.eye(3, 8), 8, axis=0)[:, None]
    images = rng.integers(0, 256, (6, 12, 12, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    np.savez_compressed("inputs.npz", tokens=tokens.astype(np.float32), images=images)
    with zipfile.ZipFile("images.zip", "w") as packed, tarfile.open("images.tar", "w") as tarred:
        for i, image in enumerate(images):
            Image.fromarray(image).save(f"{i}.png")
            packed.write(f"{i}.png")
            tarred.add(f"{i}.png")
            Path(f"{i}.png").unlink()
    with av.open("film.mp4", "w") as film:
        stream = film.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 48
        for image in images[:2]:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        film.mux(stream.encode())
    items, features = (make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("items", "features"))
    graph = make_graph([make_node("Abs", ["items"], ["features"])], "abs", [items], [features])
    onnx.save(make_model(graph, ir_version=8, opset_imports=[make_opsetid("", 17)]), "abs.onnx")


def write_models(cases: Any) -> dict[str, Any]:
    """Save each model; return its predictions."""
    kept = {}
    for name, model in cases.models().items():
        if name == "search" and frofa.__version__ == "0.1.0":
            continue  # which saves no searches
        if name != "not_fitted":
            X, y = cases.inputs_of(name)
            kept[name] = model.fit(X, y).predict_proba(X).round(7).tolist()
        frofa.save(model, f"{name}.frofa")
    return kept


def write_store(cases: Any) -> dict[str, str]:
    """Extract in two calls into one store, the first two parts of it compacted; return digests of the features."""
    for output in OUTPUTS:
        images, extractor = cases.images_of(output), cases.extractor(output, store="store")
        for part in (images[:2], images):
            extractor.transform(part)
        if output == "mean":
            FeatureStore("store").compact()
    store = FeatureStore("store")
    features: dict[str, Any] = {digest: store.features(spec) for digest, spec in store.specs().items()}
    kept = {digest: blake2b(np.asarray(array).tobytes(), digest_size=16) for digest, array in features.items()}
    return {digest: hasher.hexdigest() for digest, hasher in kept.items()}


def write_checkpoints(cases: Any) -> dict[str, Any]:
    """Search with checkpoints, and cut them to half of the fits; return scores by candidate and split."""
    kept = {}
    for name, case in cases.cases().items():
        if name in OF_EXTRACTORS and frofa.__version__ == "0.1.0":
            continue  # whose extractors had no `background`, so that these are other searches since
        path = Path(f"{name}.jsonl")
        results = case.search(path).fit(case.X, case.y).cv_results_
        kept[name] = [results["split0_test_score"].tolist(), results["split1_test_score"].tolist()]
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[: 1 + len(lines) // 2]))
    shutil.rmtree("colours", ignore_errors=True)
    return kept


def main() -> None:
    """Write all, and what it must give in ``expected.json``."""
    os.chdir(FOLDER)
    if not Path("inputs.npz").exists():
        write_inputs()
    sys.path.insert(0, str(FOLDER.parent.parent))
    import older_cases as cases

    shutil.rmtree(frofa.__version__, ignore_errors=True)
    Path(frofa.__version__).mkdir()
    os.chdir(frofa.__version__)
    for name in cases.SHARED:
        shutil.copy(FOLDER / name, name)
    warnings.simplefilter("ignore")
    expected = {"predictions": write_models(cases), "features": write_store(cases), "scores": write_checkpoints(cases)}
    Path("expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    for name in (*cases.SHARED, "store/.lock"):
        Path(name).unlink()


if __name__ == "__main__":
    main()

"""frofa.OnnxEncoder: ONNX models, among them the embedded vision transformer, exported here by PyTorch itself."""

import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.pipeline import make_pipeline
from torch import Tensor, nn

import frofa
from frofa import FrozenFeatureExtractor, OnnxEncoder
from frofa.backbones.loading import load_backbone
from frofa.estimators import PrototypeClassifier
from frofa.exceptions import EncoderError, ItemError, ModelNotFoundError

SIGNALS = np.random.default_rng(0).normal(size=(7, 2, 20))


@pytest.fixture(autouse=True, scope="module")
def _runtime() -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    pytest.importorskip("onnx", reason="PyTorch writes no ONNX files without it")


def export(module: nn.Module, example: Tensor, path: Path, n: int | None = None, **options: Any) -> Path:
    """Write an ONNX file with PyTorch's older exporter, which needs the package onnx alone."""
    axes = {"items": {0: "n"}, "features": {0: "n"}} if n is None else None
    names: dict[str, Any] = {"input_names": ["items"], "output_names": ["features"], **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is a newer exporter, and of tracing
        torch.onnx.export(module.eval(), (example,), path, dynamic_axes=axes, dynamo=False, **names)
    return path


@pytest.fixture(scope="module")
def linear() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(40, 5))


@pytest.fixture(scope="module")
def model(linear: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(linear, torch.zeros(2, 2, 20), tmp_path_factory.mktemp("onnx") / "model.onnx")


def expected(module: nn.Module) -> Any:
    with torch.inference_mode():
        return module(torch.tensor(SIGNALS, dtype=torch.float32)).numpy()


def test_features_are_the_modules(model: Path, linear: nn.Module, tmp_path: Path) -> None:
    extractor = FrozenFeatureExtractor(OnnxEncoder(model), batch_size=3, store=tmp_path)
    np.testing.assert_allclose(extractor.transform(SIGNALS), expected(linear), rtol=1e-5, atol=1e-6)  # from float64
    again = pickle.loads(pickle.dumps(extractor))  # noqa: S301
    assert len(pickle.dumps(extractor)) < 2000
    assert again.extract(SIGNALS).n_from_store == 7


def test_the_embedded_vision_transformer_gives_the_same_tokens(image_paths: list[str], tmp_path: Path) -> None:
    backbone = load_backbone("frofa/vit_tiny_tin200", None, "cpu")

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit = backbone.module

        def forward(self, pixels: Tensor) -> Any:
            vit: Any = self.vit
            return vit.forward_features(pixels)[:, vit.num_prefix_tokens :]

    path = export(Tokens(), backbone.preprocess(Image.new("RGB", (64, 64)))[None], tmp_path / "vit.onnx")
    encoder = OnnxEncoder(
        path, load=lambda file: Image.open(file).convert("RGB"), preprocess=backbone.preprocess, spec="timm's, v1"
    )
    extractor = FrozenFeatureExtractor(encoder, store=tmp_path / "store", batch_size=5)
    tokens = FrozenFeatureExtractor(device="cpu").transform(image_paths)
    np.testing.assert_allclose(extractor.transform(image_paths), tokens, rtol=1e-3, atol=1e-4)
    labels = [Path(image).parent.name for image in image_paths]
    pipeline = make_pipeline(extractor, PrototypeClassifier()).fit(image_paths, labels)
    frofa.save(pipeline, tmp_path / "model.frofa")
    loaded = frofa.load(tmp_path / "model.frofa", encoder=encoder)
    assert loaded.predict(image_paths).tolist() == pipeline.predict(image_paths).tolist()


def test_a_model_for_so_many_items_gets_so_many(linear: nn.Module, tmp_path: Path) -> None:
    path = export(linear, torch.zeros(4, 2, 20), tmp_path / "four.onnx", n=4)
    features = FrozenFeatureExtractor(OnnxEncoder(path)).transform(SIGNALS)
    np.testing.assert_allclose(features, expected(linear), rtol=1e-5, atol=1e-6)
    assert OnnxEncoder(path, batch_size=3).batch_size == 3
    assert OnnxEncoder(path, batch_size=9).batch_size == 4


def test_identity_is_the_content_of_the_files(model: Path, linear: nn.Module, tmp_path: Path) -> None:
    def spec(path: Path, **options: Any) -> Any:
        return FrozenFeatureExtractor(OnnxEncoder(path, **options)).feature_spec()

    copied = tmp_path / "copy.onnx"
    copied.write_bytes(model.read_bytes())
    assert spec(copied) == spec(model)
    assert spec(model, preprocess=np.abs, spec="v1") != spec(model, preprocess=np.abs, spec="v2") != spec(model)
    assert spec(model, output="features") != spec(model)
    other = export(nn.Sequential(linear, nn.ReLU()), torch.zeros(2, 2, 20), tmp_path / "other.onnx")
    assert spec(other) != spec(model)


def test_weights_in_other_files_are_part_of_the_identity(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    weights = np.arange(8, dtype=np.float32).reshape(4, 2)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 4])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "product.onnx"
    onnx.save(model, path, save_as_external_data=True, location="product.weights", size_threshold=0)
    first = FrozenFeatureExtractor(OnnxEncoder(path))
    np.testing.assert_array_equal(first.transform(np.eye(4)), weights)
    (tmp_path / "product.weights").write_bytes((2 * weights).tobytes())
    second = FrozenFeatureExtractor(OnnxEncoder(path))
    np.testing.assert_array_equal(second.transform(np.eye(4)), 2 * weights)
    assert first.feature_spec() != second.feature_spec()


def test_errors_name_what_is_wrong(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"absent\.onnx cannot be read: No such file"):
        FrozenFeatureExtractor(OnnxEncoder(tmp_path / "absent.onnx")).fit()
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelNotFoundError, match=r"ONNX Runtime cannot run .*text\.onnx"):
        FrozenFeatureExtractor(OnnxEncoder(tmp_path / "text.onnx")).fit()
    with pytest.raises(EncoderError, match=r"has the outputs \['features'\]. Got output='logits'"):
        FrozenFeatureExtractor(OnnxEncoder(model, output="logits")).fit()
    with pytest.raises(EncoderError, match=r"no AbacusExecutionProvider. Available: .*CPU"):
        FrozenFeatureExtractor(OnnxEncoder(model, providers=["AbacusExecutionProvider"])).fit()
    with pytest.raises(EncoderError, match="features depend on load"):
        OnnxEncoder(model, load=np.load)
    with pytest.raises(ItemError, match=r"position 0 \(array, float64, shape \(3,\)\): InvalidArgument"):
        FrozenFeatureExtractor(OnnxEncoder(model)).transform([np.zeros(3)])


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    class Sum(nn.Module):
        def forward(self, one: Tensor, other: Tensor) -> Tensor:
            return one + other

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Sum(), (torch.ones(2, 3), torch.ones(2, 3)), tmp_path / "sum.onnx", dynamo=False)
    with pytest.raises(EncoderError, match=r"one input\. .*sum\.onnx has 2"):
        FrozenFeatureExtractor(OnnxEncoder(tmp_path / "sum.onnx")).fit()


def test_a_missing_runtime_names_the_extra(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"pip install 'frofa\[onnx\]'"):
        FrozenFeatureExtractor(OnnxEncoder(model)).fit()

"""Scores of images for names, from files to logits, beside those of transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from text_helpers import clip_folder, siglip2_folder, siglip_folder

from frofa import FrozenFeatureExtractor, FrozenTextExtractor, ZeroShotClassifier, load, save
from frofa.backbones.text.loading import load_text_tower

transformers = pytest.importorskip("transformers")
FOLDERS = {"clip": clip_folder, "siglip": siglip_folder, "siglip2": lambda folder: siglip2_folder(folder, naflex=False)}
NAMES = {"cat": "cat", "dog": ["dog", "A very small, blurry horse"], "none": "\u732b \u0644\u0627"}


@pytest.mark.parametrize("kind", FOLDERS)
def test_scores_are_those_of_the_model(kind: str, tmp_path: Path) -> None:
    name = FOLDERS[kind](tmp_path / kind)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)  # of the model's own size
    features = FrozenFeatureExtractor(name, output="projected", device="cpu").transform(pictures)
    words = FrozenTextExtractor(name, device="cpu")
    captions = ["a photo of a cat", "dog", "\u732b"]
    model: Any = transformers.AutoModel.from_pretrained(tmp_path / kind).eval()
    processor: Any = transformers.AutoProcessor.from_pretrained(tmp_path / kind)
    context = load_text_tower(name, "cpu").context
    options = {"padding": "max_length", "truncation": True, "max_length": context, "return_tensors": "pt"}
    inputs = processor(text=captions, images=[Image.fromarray(one) for one in pictures], **options)
    with torch.inference_mode():
        expected = model(**inputs).logits_per_image.numpy()
    head = ZeroShotClassifier(captions, text=words, templates="{}").fit()
    found = head.decision_function(features)
    order = [head.classes_.tolist().index(caption) for caption in captions]
    np.testing.assert_allclose(found[:, order], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_what_is_saved_needs_no_files(tmp_path: Path) -> None:
    name = siglip_folder(tmp_path / "siglip")
    head = ZeroShotClassifier(NAMES, text=FrozenTextExtractor(name)).fit()
    rows = np.random.default_rng(0).normal(size=(4, head.n_features_in_))
    save(head, tmp_path / "head.frofa")
    for file in (tmp_path / "siglip").iterdir():
        file.unlink()
    np.testing.assert_array_equal(load(tmp_path / "head.frofa").predict_proba(rows), head.predict_proba(rows))

"""Whether 2:4 sparse weights and int8 pay: images a second of the forward pass, against bfloat16, compiled.

Vision transformers of the sizes B/16 and So400m/14 at 224 px with random weights, on which speed does not depend. The
sides are float32, bfloat16, int8 (rounded in each pass, one scale a token) and 2:4 sparse weights in bfloat16, plain
and compiled; the baseline is bfloat16, compiled. The library has int8 for CPUs, where it wins, and takes 2:4 weights as
dense ones, since kernels for them lose; here, both are put into the model on any device. For each side: the median time
of passes over pixels that are on the device, and the relative difference of its features to those of float32 with the
same weights, as a check that it computes them. A side that fails is reported with its error, and the others go on.

Usage: python benchmarks/low_precision.py [--models NAME ...] [--batch-size N] [--seconds S] [--out FILE.json] [--tiny]
Prints one line of JSON a side. 2:4 weights have kernels of their own on CUDA devices only.
"""

import argparse
import json
import platform
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

import frofa
from frofa.backbones.backbone import Backbone
from frofa.backbones.loading import load_backbone
from frofa.backbones.outputs import Request
from frofa.backbones.precision import Int8Linear
from frofa.doctor.checks.cost import images_per_second

Record = dict[str, Any]
MODELS = {"B/16": "vit_base_patch16_224", "So400m/14": "vit_so400m_patch14_siglip_224"}
TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 2}
SIDES = [
    ("bfloat16", "dense", True),  # the baseline, first
    ("float32", "dense", False),
    ("bfloat16", "dense", False),
    ("int8", "dense", False),
    ("int8", "dense", True),
    ("bfloat16", "2:4", False),
    ("bfloat16", "2:4", True),
]
"""Precision, weights, and whether it is compiled."""


def save_model(folder: Path, architecture: str, **model_args: Any) -> str:
    """A model with random weights, in timm's folder format."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module: Any = timm.create_model(architecture, num_classes=0, **model_args)
    size = model_args.get("img_size", 224)
    config = {
        "architecture": architecture,
        "num_classes": 0,
        "model_args": model_args,
        "pretrained_cfg": {"input_size": [3, size, size], "mean": [0.5] * 3, "std": [0.5] * 3},
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(module.state_dict(), folder / "model.safetensors")
    return f"local-dir:{folder}"


def request_of(backbone: Backbone) -> Request:
    return Request("pooled", backbone.resolve_layer("pooled", None, True), True)


class SparseLinear(nn.Module):
    """A linear layer with 2:4 sparse weights in bfloat16, by the tensor cores' semi-structured kernels."""

    bias: Tensor | None

    def __init__(self, linear: nn.Linear):
        super().__init__()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*prototype")
            sparse = torch.sparse.to_sparse_semi_structured(linear.weight.detach().bfloat16().contiguous())
        self.weight = nn.Parameter(sparse, requires_grad=False)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().bfloat16())

    def forward(self, x: Tensor) -> Tensor:
        """Of x (..., in_features)."""
        return F.linear(x.bfloat16(), self.weight, self.bias)


def with_kernels(backbone: Backbone, precision: str, weights: str) -> tuple[Backbone, str]:
    """The backbone with the layers of a side, and the precision to run it in."""
    if precision == "int8":
        return backbone.with_linear_layers("int8", Int8Linear), backbone.resolve_precision("auto")
    if weights == "2:4" and backbone.device.type == "cuda":
        return backbone.with_linear_layers("2:4", SparseLinear), precision
    return backbone, precision


def measure(model: str, side: tuple[str, str, bool], args: argparse.Namespace) -> Record:
    """Throughput of a side, and how far its features are from those of float32 with the same weights."""
    precision, weights, compiled = side
    backbone = load_backbone(model, None, args.device, "2:4" if weights == "2:4" else None)
    shape = (args.batch_size, *backbone.data_config["input_size"])
    pixels = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(backbone.device)
    request = request_of(backbone)
    expected = backbone.extract(pixels[:8], [request], "float32")[0]
    backbone, precision = with_kernels(backbone, precision, weights)
    found = backbone.extract(pixels[:8], [request], precision)[0]
    difference = float(((found - expected).norm() / expected.norm()).cpu())
    begun = time.perf_counter()
    backbone.extract(pixels, [request], precision, compiled)
    first = time.perf_counter() - begun
    rate = images_per_second(
        lambda: backbone.extract(pixels, [request], precision, compiled), len(pixels), backbone.device, args.seconds
    )
    return {
        "images_per_s": round(rate, 1),
        "first_pass_s": round(first, 2),
        "difference_to_float32": float(f"{difference:.2e}"),
    }


def run(name: str, model: str, args: argparse.Namespace) -> list[Record]:
    """All sides of a model; ratios are to the baseline, which comes first."""
    records: list[Record] = []
    baseline: float | None = None
    for side in SIDES:
        precision, weights, compiled = side
        record: Record = {"model": name, "precision": precision, "weights": weights, "compiled": compiled}
        record |= {"batch_size": args.batch_size}
        try:
            record |= measure(model, side, args)
        except Exception as error:  # of kernels and compilers: the others go on
            record["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        else:
            baseline = record["images_per_s"] if side == SIDES[0] else baseline
            record["times_baseline"] = round(record["images_per_s"] / baseline, 3) if baseline else None
        records.append(record)
        print(json.dumps(record), flush=True)
        torch.compiler.reset()
    return records


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch-size", type=int, default=256, help="(default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="to measure each side for (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="a small model and batch, to see that everything runs")
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    args = parser.parse_args()
    if args.tiny:
        args.batch_size, args.seconds = 8, 0.1
    records = []
    with tempfile.TemporaryDirectory() as temporary:
        for index, name in enumerate(["B/16"] if args.tiny else args.models):
            model = save_model(Path(temporary) / str(index), MODELS[name], **(TINY if args.tiny else {}))
            records += run("tiny" if args.tiny else name, model, args)
    about = {"frofa": frofa.__version__, "torch": torch.__version__, "timm": timm.__version__}
    about |= {"python": platform.python_version()}
    about["device"] = torch.cuda.get_device_name() if args.device.startswith("cuda") else platform.machine()
    if args.out:
        args.out.write_text(json.dumps({**about, "measurements": records}, indent=1) + "\n")


if __name__ == "__main__":
    main()

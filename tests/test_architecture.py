"""The rules of the house, read from its source files: who imports whom, and what folders and docstrings look like."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"augmentations": "frofa.augmentations", "estimators": "frofa.estimators", "frofa": "frofa"}

ORDER = (
    ("frofa.exceptions", "frofa._version"),
    ("frofa.utils",),
    ("frofa.compute",),
    ("frofa.ragged", "frofa.evaluation"),
    ("frofa.blocks",),
    ("frofa.augmentations.batch",),
    ("frofa.augmentations.ops",),
    ("frofa.augmentations",),
    ("frofa.estimators.tokens", "frofa.estimators.solvers"),
    ("frofa.estimators.core", "frofa.estimators.training"),
    ("frofa.estimators.models", "frofa.estimators.text"),
    ("frofa.estimators.batched",),
    ("frofa.estimators", "frofa.estimators.searching"),
    ("frofa.estimators.search", "frofa.estimators.confidence"),
    ("frofa.images.pixels",),
    ("frofa.images",),
    ("frofa.decoding", "frofa.store", "frofa.web", "frofa.tokenizing"),
    ("frofa.backbones",),
    ("frofa.encoders", "frofa.soft_moe"),
    ("frofa.extraction",),
    ("frofa.texts",),
    ("frofa.pretrained", "frofa.selection", "frofa.display"),
    ("frofa.persistence", "frofa.augmentation_display"),
    ("frofa.image_classifier",),
    ("frofa.learning_curves",),
    ("frofa.doctor", "frofa.labelling", "frofa.study", "frofa.demo"),
    ("frofa.retrieval",),
    ("frofa.scifibench",),
    ("frofa.displays",),
    ("frofa.annotation.records", "frofa.annotation.learning"),
    ("frofa.annotation.exchange",),
    ("frofa.annotation", "frofa.annotation.server", "frofa.reporting"),
    ("frofa.annotation.widget",),
    ("frofa.cli",),
    ("frofa.__main__",),
)
"""A module imports its own package and the rows above. The longest name that fits says where a module stands; the
``__init__`` of a package stands in the package's last row, as it offers all of it."""

FRONT_DOOR = "frofa.__init__"
"""Loads names at first use, and lists them for type checkers. All of the house stands behind it: it has no place in the
order, and nothing in the house imports it."""

HEADS = "frofa.estimators"
WITHOUT_HEADS = ("images", "decoding", "store", "web", "backbones", "encoders", "extraction", "tokenizing", "texts")
"""Packages that stand below the heads, and import nothing of them all the same."""

LATE: Mapping[str | tuple[str, str], str] = {
    "fcntl": "not on Windows",
    "huggingface_hub": "slow to import",
    "pandas": "optional",
    "resource": "not on Windows",
    "safetensors": "slow to import",
    "timm": "slow to import",
    "torch": "not in all versions",
    "torchvision": "slow to import",
    "tqdm": "slow to import",
    ("frofa.annotation.widget", "frofa.annotation.extracting"): "PyTorch: in the thread that computes features",
    ("frofa.annotation.widget", "frofa.extraction.extractor"): "PyTorch: in the thread that computes features",
    ("frofa.annotation.trainer", "frofa.annotation.learning.learner"): "PyTorch: the page is there before it",
    ("frofa.augmentations.compose", "frofa.augmentations.ops.triton_choice"): "Triton: for NVIDIA GPUs only",
    ("frofa.augmentations.ops.pointwise", "frofa.augmentations.ops.triton"): "Triton: for NVIDIA GPUs only",
    ("frofa.augmentations.ops.resample", "frofa.augmentations.ops.triton"): "Triton: for NVIDIA GPUs only",
    ("frofa.augmentations.sharpness", "frofa.augmentations.ops.triton"): "Triton: for NVIDIA GPUs only",
    ("frofa.backbones.checkpoints.timm_names", "frofa.backbones.soft_moe"): "timm: its models are listed there",
    ("frofa.backbones.loading", "frofa.backbones.soft_moe"): "timm: its models are listed there",
    ("frofa.encoders.registered", "frofa.encoders.protocol"): "PyTorch: for an encoder that is there alone",
    ("frofa.estimators.training.sgd", "frofa.estimators.training.sgd_triton"): "Triton: for NVIDIA GPUs only",
    ("frofa.images.pixels.colour", "frofa.images.pixels.grey"): "NumPy: for grey images of more than 8 bits alone",
}
"""What function bodies import, and why: packages by name, modules of the house as (importer, imported). Extras come
through `frofa.utils.optional.require`. The command line starts fast by importing everything late."""

MOST_MODULES = 12
WORKER = "frofa.decoding.worker"
NOT_IN_THE_WORKER = ("numpy", "timm", "torch")
LIGHT = ("frofa.decoding", "frofa.images", "frofa.utils")
NOT_IN_LIGHT = ("timm", "torch")

FRAGMENT = re.compile(
    r"(As|Between|By|Equal|For|How(?! to)|In the|Into|It|Its|Itself|Likewise|Nothing|Of|Same|So many|That|The same|Them"
    r"|There|They|Those|Up to|What|Where|Which|Whether (all|any|it|so|some|that|these|they|this)|Why"
    r"|(?!If)\w+ (it|them|there))\b"
)
"""Beginnings of first lines that cannot be understood without the code below them."""


class Import(NamedTuple):
    """An import statement; late ones stand in a function's body."""

    importer: str
    imported: str
    late: bool
    typing: bool


def source_files(root: Path) -> dict[str, Path]:
    """The files by module; links from one of the folders to another are left out."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root / folder).with_suffix("").parts
            if folder != "frofa" or parts[0] not in FOLDERS:
                found[".".join((package, *parts))] = path
    return found


def imports_of(root: Path) -> list[Import]:
    """All imports; a name is resolved to the module or ``__init__`` that it is, else to the one that it comes from."""
    files = source_files(root)

    def resolve(*names: str) -> str:
        return next((file for name in names for file in (name, f"{name}.__init__") if file in files), names[-1])

    def visit(node: ast.AST, importer: str, late: bool, typing: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            yield from (Import(importer, resolve(alias.name), late, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = importer.split(".")[: -node.level] if node.level else []
            origin = ".".join((*above, *filter(None, [node.module])))
            names = (resolve(f"{origin}.{alias.name}", origin) for alias in node.names)
            yield from (Import(importer, name, late, typing) for name in names)
        late = late or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        typing = typing or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, importer, late, typing)

    trees = {file: ast.parse(path.read_text("utf-8")) for file, path in files.items()}
    return [one for file, tree in trees.items() for one in visit(tree, file, False, False)]


def inside(package: str, module: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def parent(module: str) -> str:
    return module.rpartition(".")[0]


def in_the_house(root: Path) -> list[Import]:
    return [one for one in imports_of(root) if inside("frofa", one.imported) and one.importer != FRONT_DOOR]


def place(module: str) -> tuple[int, str]:
    """Row and name of a module in the order; row -1 if it has none."""
    rows = [(row, name) for row, names in enumerate(ORDER) for name in names]
    offered = [row for row, name in rows if module.endswith(".__init__") and inside(parent(module), name)]
    if offered:
        return max(offered), module
    fitting = [(row, name) for row, name in rows if inside(name, module)]
    return max(fitting, key=lambda one: len(one[1]), default=(-1, ""))


def order(root: Path) -> list[str]:
    """Imports that do not go up the order, and modules that have no place in it."""
    modules = source_files(root).keys() - {FRONT_DOOR}
    faults = [f"{module} has no place" for module in sorted(modules) if place(module)[0] < 0]
    for importer, imported, *_ in in_the_house(root):
        (row, name), (other_row, other_name) = place(importer), place(imported)
        own = name == other_name or (importer.endswith(".__init__") and inside(parent(importer), imported))
        apart = inside(HEADS, imported) and any(inside(f"frofa.{package}", importer) for package in WITHOUT_HEADS)
        if apart or not (own or -1 < other_row < row):
            faults.append(f"{importer} imports {imported}")
    return faults


def circles_of(edges: Iterable[tuple[str, str]]) -> list[str]:
    """Circles of (importer, imported), one after another, each opened when it was found."""
    graph: dict[str, set[str]] = {}
    for source, target in edges:
        graph.setdefault(source, set()).add(target)
    found: list[str] = []
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            first, second, *_ = names = error.args[1]
            found.append(" < ".join(names))
            graph[second].remove(first)
        else:
            return found


def circles(root: Path) -> list[str]:
    """Circles of files, else of folders, else of packages; a folder may import from those that it lies in."""
    files = [(one.importer, one.imported) for one in in_the_house(root)]
    folders = [(parent(source), parent(target)) for source, target in files if parent(target) != "frofa"]
    packages = [tuple(".".join(module.split(".")[:2]) for module in pair) for pair in files]
    return (
        circles_of(files)
        or circles_of((source, target) for source, target in folders if not inside(target, source))
        or circles_of((source, target) for source, target in packages if source != target)
    )


def late_imports(root: Path, listed: Mapping[str | tuple[str, str], str] = LATE) -> list[str]:
    """Imports in function bodies for which no reason is listed, and reasons that nothing needs."""
    keys: list[str | tuple[str, str]] = []
    for importer, imported, late, _ in imports_of(root):
        if late and not inside("frofa.cli", importer):
            own = (importer, imported.removesuffix(".__init__"))
            keys.append(own if inside("frofa", imported) else imported.partition(".")[0])
    unlisted = [f"not listed: {key}" for key in keys if key not in listed]
    return unlisted + [f"not used: {key}" for key in listed if key not in keys]


def crowded_folders(root: Path) -> list[str]:
    counts = Counter(parent(module) for module in source_files(root) if not module.endswith(".__init__"))
    return [f"{folder} has {n} modules" for folder, n in counts.items() if n > MOST_MODULES and folder != "frofa.cli"]


def private_modules(root: Path) -> list[str]:
    """Imports of modules with a leading underscore from outside their package."""
    faults = []
    for importer, imported, *_ in imports_of(root):
        parts = imported.split(".") if inside("frofa", imported) else []
        private = [i for i, part in enumerate(parts) if re.match("_(?!_)", part)]
        if any(not inside(".".join(parts[:i]), importer) for i in private):
            faults.append(f"{importer} imports {imported}")
    return faults


def worker_imports(root: Path) -> list[str]:
    """Heavy packages that the decoding worker would import on its way, through every ``__init__`` that it passes."""
    files, waiting, seen = source_files(root), [WORKER], {WORKER}
    faults = [] if WORKER in files else [f"{WORKER} is not there"]
    at_start = [one for one in imports_of(root) if not one.late and not one.typing]
    while waiting:
        module = waiting.pop()
        reached = [one.imported for one in at_start if one.importer == module]
        faults += [f"{module} imports {name}" for name in reached if name.partition(".")[0] in NOT_IN_THE_WORKER]
        parts = module.split(".")
        passed = [".".join((*parts[:i], "__init__")) for i in range(1, len(parts))]
        new = {name for name in (*reached, *passed) if name in files} - seen
        waiting += sorted(new)
        seen |= new
    return faults


def light_packages(root: Path) -> list[str]:
    return [
        f"{one.importer} imports {one.imported}"
        for one in imports_of(root)
        if one.imported.partition(".")[0] in NOT_IN_LIGHT and not one.late and not one.typing
        if any(inside(package, one.importer) for package in LIGHT)
    ]


def docstrings(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and first paragraph of each docstring, those below constants and attributes included."""
    body = getattr(node, "body", [])
    for i, child in enumerate(body if isinstance(body, list) else []):
        value = child.value if isinstance(child, ast.Expr) else None
        documents = i > 0 and isinstance(body[i - 1], (ast.Assign, ast.AnnAssign))
        documents |= i == 0 and isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if documents and isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield child.lineno, " ".join(value.value.strip().partition("\n\n")[0].split())
    for child in ast.iter_child_nodes(node):
        yield from docstrings(child)


def first_lines(root: Path) -> list[str]:
    """First lines that do not end with a full stop or begin as fragments do."""
    return [
        f"{path.relative_to(root)}:{line}: {text}"
        for path in source_files(root).values()
        for line, text in docstrings(ast.parse(path.read_text("utf-8")))
        if not text.endswith(".") or FRAGMENT.match(text)
    ]


Rule: TypeAlias = Callable[..., list[str]]
RULES: tuple[Rule, ...] = (
    order,
    circles,
    late_imports,
    crowded_folders,
    private_modules,
    worker_imports,
    light_packages,
    first_lines,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(rule: Rule) -> None:
    assert rule(ROOT) == []


def test_every_name_in_the_order_exists() -> None:
    files = source_files(ROOT)
    assert [name for row in ORDER for name in row if not any(inside(name, module) for module in files)] == []


SOUND = (
    "frofa/__init__.py: if TYPE_CHECKING: from frofa.store import Store",
    "frofa/store/__init__.py: from frofa.store.store import Store",
    "frofa/store/store.py: import frofa.store.upkeep.verify, frofa.store.directory",
    "frofa/store/directory.py: from frofa.utils import files; import torch",
    "frofa/store/upkeep/verify.py: from frofa.store.directory import Directory",
    "frofa/utils/files.py: 'Files that appear whole or not at all.'",
    "frofa/decoding/worker.py: from frofa.utils import files",
    "frofa/cli/store.py: def run(): from frofa.store import Store; import numpy",
    "estimators/__init__.py: import frofa.estimators.search, frofa.estimators.ridge",
    "estimators/ridge.py: from frofa.estimators.core import linear",
    "estimators/search.py: from frofa.estimators.ridge import Ridge",
    "estimators/core/linear.py: ",
)
BROKEN: tuple[tuple[Rule, str, tuple[str, ...]], ...] = (
    (order, "core.a imports frofa.estimators.ridge", ("estimators/core/a.py: import frofa.estimators.ridge",)),
    (order, "files imports frofa.store.store", ("frofa/utils/files.py: def f(): import frofa.store.store",)),
    (order, "files imports frofa.store.store", ("frofa/utils/files.py: if TYPE_CHECKING: import frofa.store.store",)),
    (order, "b imports frofa.estimators.__init__", ("estimators/b.py: from frofa.estimators import Ridge",)),
    (order, "worker imports frofa.store.store", ("frofa/decoding/worker.py: from ..store import store",)),
    (order, "a imports frofa.estimators.ridge", ("frofa/store/a.py: from frofa.estimators.ridge import Ridge",)),
    (order, "a imports frofa.__init__", ("frofa/store/a.py: from frofa import Store",)),
    (order, "frofa.new has no place", ("frofa/new.py: ",)),
    (
        circles,
        "frofa.utils.a < frofa.utils.files",
        ("frofa/utils/a.py: def f(): import frofa.utils.files", "frofa/utils/files.py: import frofa.utils.a"),
    ),
    (
        circles,
        "store.disk < frofa.store.lazy",
        (
            "frofa/store/disk/a.py: import frofa.store.lazy.b",
            "frofa/store/lazy/b.py: ",
            "frofa/store/lazy/c.py: import frofa.store.disk.d",
            "frofa/store/disk/d.py: ",
        ),
    ),
    (
        circles,
        "frofa.decoding < frofa.store",
        (
            "frofa/decoding/a.py: import frofa.store.upkeep.verify",
            "frofa/store/directory.py: import frofa.decoding.b",
            "frofa/decoding/b.py: ",
        ),
    ),
    (late_imports, "not listed: scipy", ("frofa/store/a.py: async def f(): from scipy import linalg",)),
    (
        late_imports,
        "store.a', 'frofa.store.upkeep'",
        ("frofa/store/a.py: def f(): from frofa.store.upkeep import b", "frofa/store/upkeep/__init__.py: "),
    ),
    (crowded_folders, "compute has 13 modules", tuple(f"frofa/compute/m{i}.py: " for i in range(13))),
    (
        private_modules,
        "a imports frofa.utils._b",
        ("frofa/store/a.py: from frofa.utils._b import c", "frofa/utils/_b.py: "),
    ),
    (worker_imports, "utils.files imports torch.nn", ("frofa/utils/files.py: from torch.nn import functional",)),
    (worker_imports, "decoding.__init__ imports numpy", ("frofa/decoding/__init__.py: import numpy",)),
    (light_packages, "images.a imports torch", ("frofa/images/a.py: import torch",)),
    (first_lines, "frofa/utils/a.py:1: Read a file", ("frofa/utils/a.py: 'Read a file'",)),
    (first_lines, "estimators/a.py:1: As given.", ("estimators/a.py: class A: x = 1; 'As given.'",)),
    (first_lines, "estimators/a.py:1: Apply it.", ("estimators/a.py: def f(): 'Apply it.'",)),
)


def build(root: Path, *files: str) -> Path:
    """Write files, given as ``PATH: TEXT``."""
    for path, _, text in (file.partition(": ") for file in files):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


@pytest.mark.parametrize(("rule", "expected", "files"), BROKEN)
def test_a_broken_rule_is_found(rule: Rule, expected: str, files: tuple[str, ...], tmp_path: Path) -> None:
    reasons: dict[str, object] = {"listed": {}} if rule is late_imports else {}
    assert rule(build(tmp_path, *SOUND), **reasons) == []
    (fault,) = rule(build(tmp_path, *files), **reasons)
    assert expected in fault


def test_a_reason_that_nothing_needs_is_found(tmp_path: Path) -> None:
    root = build(tmp_path, "frofa/utils/a.py: def f(): import timm.data")
    assert late_imports(root, {"timm": "slow to import"}) == []
    assert late_imports(root, {"timm": "slow to import", "av": "optional"}) == ["not used: av"]

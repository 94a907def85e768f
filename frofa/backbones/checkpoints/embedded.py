"""The backbones that ship inside the package."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

PREFIX = "frofa/"
FOLDER = Path(str(files("frofa"))) / "models"


@dataclass(frozen=True)
class EmbeddedModel:
    """A backbone in timm's folder format inside the package."""

    name: str
    folder: Path

    @property
    def card(self) -> str:
        """The model card, in Markdown."""
        return (self.folder / "README.md").read_text()

    @property
    def summary(self) -> str:
        """The card's first sentence."""
        return self.card.split("\n\n")[1].replace("\n", " ")


def embedded_models() -> list[EmbeddedModel]:
    """All embedded backbones, by name."""
    return [EmbeddedModel(PREFIX + path.parent.name, path.parent) for path in sorted(FOLDER.glob("*/config.json"))]

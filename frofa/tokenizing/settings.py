"""Settings of a tokenizer: special tokens, padding and case, from the files beside its vocabulary."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from frofa.utils.json import check_fields, read_json

CONFIG, WHOLE = "tokenizer_config.json", "tokenizer.json"
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


class Special(NamedTuple):
    """A token that is found in a text before all else; `flags` are those of `tokenizers.AddedToken` that are given."""

    content: str
    flags: Mapping[str, bool]


class Settings(NamedTuple):
    """Settings of a folder, by the rules of `transformers` on which file counts where several differ.

    `added` has tokens by their ids, `named` those with a role (``"eos_token"``), `extra` others that are special.
    """

    kind: str | None
    added: Mapping[int, Special]
    named: Mapping[str, Special]
    extra: tuple[Special, ...]
    config: Mapping[str, Any]

    def name(self, role: str, default: str) -> str:
        """The token of a role."""
        return self.named[role].content if role in self.named else default


def read_settings(folder: Path) -> Settings:
    """Read ``tokenizer_config.json`` and, where it lists no added tokens, the older files; all may be missing."""
    config = read_fields(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    roles = {role: config[role] for role in NAMED if config.get(role) is not None}
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    added: dict[int, Any] = {}
    if "added_tokens_decoder" in config:
        added = {int(index): token for index, token in _object(config["added_tokens_decoder"], folder).items()}
    else:
        roles, extra, added = _older(folder, roles, extra)
    tokens = {index: _special(token, folder) for index, token in added.items()}
    known = {token.content: token for token in tokens.values()}
    named = {role: _special(value, folder) for role, value in roles.items()}
    extra = list(extra.values()) if isinstance(extra, dict) else extra
    kind = config.get("tokenizer_class")
    return Settings(
        kind.removesuffix("Fast") if isinstance(kind, str) else None,
        tokens,
        {role: known.get(token.content, token) for role, token in named.items()},
        tuple(_special(token, folder) for token in extra),
        config,
    )


def read_fields(file: Path) -> dict[str, Any]:
    """Read the object in a JSON file; a ValueError names the file if it holds anything else."""

    def fail(why: str) -> ValueError:
        return ValueError(f"{file} is no JSON object: {why}")

    return check_fields(read_json(file, fail), {}, fail)


def _older(folder: Path, roles: dict[str, Any], extra: Any) -> tuple[dict[str, Any], Any, dict[int, Any]]:
    """The files that ``tokenizer_config.json`` has replaced, the later of which counts."""
    added: dict[int, Any] = {}
    if (file := folder / "special_tokens_map.json").is_file():
        found = read_fields(file)
        # What stands there as an object is special, whatever it says of itself.
        marked = {
            name: value | {"special": True} if isinstance(value, dict) else value for name, value in found.items()
        }
        roles = roles | {role: marked[role] for role in NAMED if marked.get(role) is not None}
        extra = found.get("extra_special_tokens") or found.get("additional_special_tokens") or extra
    if (file := folder / "added_tokens.json").is_file():
        special = {_special(value, folder).content for value in roles.values()}
        for content, index in read_fields(file).items():
            flags = {"normalized": content not in special, "special": content in special}
            added[int(index)] = {"content": content, **flags}
    if (file := folder / WHOLE).is_file():
        for token in read_fields(file).get("added_tokens") or []:
            added[int(_object(token, folder)["id"])] = token
    return roles, extra, added


def _special(value: Any, folder: Path) -> Special:
    if isinstance(value, str):
        return Special(value, {})
    fields = _object(value, folder)
    if not isinstance(fields.get("content"), str):
        raise ValueError(f"{folder}: a special token must be a string, or an object with its content. Got {value!r}")
    return Special(fields["content"], {flag: bool(fields[flag]) for flag in _FLAGS if flag in fields})


def _object(value: Any, folder: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{folder}: expected a JSON object of added tokens. Got {value!r:.80}")
    return value

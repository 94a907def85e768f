"""The outputs that a user asks a backbone for: one, several by name, those of some layers, or the best known ones."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Literal, NamedTuple, TypeAlias

from frofa.backbones.backbone import Backbone
from frofa.backbones.outputs import OUTPUTS, Output, Request
from frofa.backbones.pretraining import pretraining

Wanted: TypeAlias = Output | Literal["auto"] | Sequence[Output | tuple[Output, int]]
"""One output; ``"auto"``; or several, of which ``("mean", 9)`` is that of a layer."""
EXPECTED = f"one of {', '.join(map(repr, OUTPUTS))}, or a pair of one and a layer, such as ('mean', 9)"


class Entry(NamedTuple):
    """One of several outputs; `layer` is None for the one that the extractor has for all."""

    output: Output
    layer: int | None = None


class Automatic(NamedTuple):
    """The outputs that ``"auto"`` stands for, and why these, as the end of a sentence."""

    outputs: tuple[Output, ...]
    reason: str


def listed(wanted: Wanted) -> tuple[Entry, ...]:
    """List outputs that are asked for by name; check their form, which needs no model.

    Raises
    ------
    ValueError
        If there is none, or one is no output, or twice there.
    """
    if isinstance(wanted, str):
        return (Entry(wanted),)  # type: ignore[arg-type]
    if not wanted:
        raise ValueError(f"output needs one output or more. Got {wanted!r}.")
    if isinstance(wanted, tuple) and len(wanted) == 2 and isinstance(wanted[1], Integral):
        raise ValueError(f"expected a list of outputs, such as [{wanted!r}]. Got {wanted!r}.")
    entries = tuple(_entry(one) for one in wanted)
    if repeated := [entry for i, entry in enumerate(entries) if entry in entries[:i]]:
        raise ValueError(f"output needs different outputs. Got {_shown(repeated[0])} twice.")
    return entries


def requests_of(backbone: Backbone, wanted: Wanted, layer: int | None, norm: bool) -> dict[str, Request]:
    """Say what a backbone is asked for, by the names of blocks: output, and ``"mean@9"`` for that of layer 9.

    `layer` and `norm` are those of all outputs that say no layer of their own.

    Raises
    ------
    ValueError
        If the model lacks an output or layer, or two of them are the same one.
    """
    if wanted == "auto":
        return _requests_of_auto(backbone, layer, norm)
    requests: dict[str, Request] = {}
    for entry in listed(wanted):
        chosen = layer if entry.layer is None else entry.layer
        index = backbone.resolve_layer(entry.output, chosen, norm)
        # A layer is named by what it resolves to: -1 of twelve is 11.
        name = entry.output if entry.layer is None else f"{entry.output}@{index}"
        request = Request(_computed(backbone, entry.output), index, norm)
        for other, made in requests.items():
            if made == request:
                raise ValueError(f"output needs different outputs. Got {_shown(entry)}, which {other!r} is already.")
        requests[name] = request
    return requests


def _computed(backbone: Backbone, output: Output) -> Output:
    """Return the output that is computed and stored: one for both, where the pooled vector is compared with texts."""
    return "pooled" if output == "projected" and not backbone.layout.is_projection_own else output


def automatic_outputs(backbone: Backbone) -> Automatic:
    """Choose the vector that the pre-training loss was applied to, and the mean of the patch tokens beside it.

    Where the pooled vector is an average of the tokens already, it is taken alone.

    Examples
    --------
    >>> from frofa.backbones.loading import load_backbone
    >>> from frofa.backbones.wanted import automatic_outputs
    >>> automatic_outputs(load_backbone("frofa/vit_tiny_tin200", None, "cpu")).outputs
    ('pooled', 'mean')
    """
    has = {output: _can_be_had(backbone, output) for output in OUTPUTS}
    if not has["mean"]:
        return Automatic(("pooled",), "it has no tokens that can be read")
    family = pretraining(backbone.module)
    if family is not None and family.vector is None:
        if has["cls"]:
            return Automatic(("cls", "mean"), f"no vector has the pre-training loss ({family.loss})")
        return Automatic(("mean",), f"no vector has the pre-training loss ({family.loss}), and there is no class token")
    if family is not None and family.vector == "cls" and has["cls"]:
        return Automatic(("cls", "mean"), f"cls was trained by {family.loss}")
    if not has["pooled"]:
        return Automatic(("cls", "mean") if has["cls"] else ("mean",), "it has no pooling that can be had here")
    # What else is known leads to the model's own pooling, by what it does.
    pooling = backbone.pooling
    if family is None:
        why = "how it was trained is not known; pooled is what it gives by itself"
    elif family.vector == "pooled":
        why = f"pooled was trained by {family.loss}"
    else:
        why = f"what was trained by {family.loss} is no output of it; pooled is what it gives by itself"
    if pooling.is_mean:
        return Automatic(("pooled",), f"{why}, and is {pooling}")
    return Automatic(("pooled", "mean"), f"{why}, and is {pooling}")


def _requests_of_auto(backbone: Backbone, layer: int | None, norm: bool) -> dict[str, Request]:
    if layer is not None or not norm:
        raise ValueError(
            f"output='auto' chooses among outputs of the last layer, with its norm. Got layer={layer}, norm={norm}: "
            "name the outputs, such as output=['cls', 'mean']."
        )
    outputs = automatic_outputs(backbone).outputs
    return {output: Request(output, backbone.resolve_layer(output, None, True), True) for output in outputs}


def _can_be_had(backbone: Backbone, output: Output) -> bool:
    try:
        backbone.resolve_layer(output, None, True)
    except ValueError:
        return False
    return True


def _entry(one: Any) -> Entry:
    pair = one if isinstance(one, (tuple, list)) else (one, None)
    if len(pair) == 2 and pair[0] in OUTPUTS:
        output, layer = pair
        if layer is None and not isinstance(one, (tuple, list)):
            return Entry(output)
        if isinstance(layer, Integral) and not isinstance(layer, bool):
            return Entry(output, int(layer))
    raise ValueError(f"each of several outputs is {EXPECTED}. Got {one!r}.")


def _shown(entry: Entry) -> str:
    return repr(entry.output) if entry.layer is None else repr(tuple(entry))


def widths_of(backbone: Backbone, requests: Mapping[str, Request]) -> dict[str, int]:
    """Channels of the blocks of vectors, by name."""
    return {name: backbone.width(request.output) for name, request in requests.items() if request.output != "tokens"}

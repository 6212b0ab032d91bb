"""Which Deformable DETR a state dict is of, read from its names and shapes."""

import re
from pathlib import Path

from torch import Tensor

from proseco.base.errors import InputError

_OFFSETS = "transformer.decoder.layers.0.cross_attn.sampling_offsets.bias"
_ORDER = ("name", "backbone", "width", "heads", "encoder_layers", "decoder_layers", "ffn", "dropout", "levels")
_ORDER += ("points", "queries", "box_refinement", "two_stage")
#: As published, for files that do not say.
_PUBLISHED = {"heads": 8, "points": 4, "dropout": 0.1, "queries": 300}
_MOST_LAYERS = 1000  # of a list; a name of a higher number is nonsense, which would be built layer by layer


def entry(state: dict[str, Tensor], facts: dict, *, heads: int | None = None, place: str | Path) -> dict:
    """The entry under ``scales.<scale>.detector`` that builds this network, without ``num_classes``.

    Shapes tell all but four numbers: how ``heads`` and ``points`` share their product, ``dropout``, and how many
    ``queries`` two stages keep. These come from the facts: our own entry, or the options of the public programs; else
    they are as published.

    :param state: names and shapes of Deformable DETR (meta tensors will do).
    :param facts: of :func:`proseco.weights.reading.read`.
    :param heads: where neither the facts say nor 8 heads with 4 points fit.
    :param place: the file, for messages.
    :raises InputError: a name that every Deformable DETR has is missing or its shape is none that it has, what the file
        says of itself is no number, heads are unknown or do not fit, or the backbone is dilated (its weights look the
        same and compute something else).
    """
    stated = _stated(facts)
    for key, value in stated.items():
        share = key == "dropout"
        kind, bounds = ((int, float), "0..1") if share else (int, "at least 1")
        if isinstance(value, bool) or not isinstance(value, kind) or not (0 <= value <= 1 if share else value >= 1):
            raise InputError(f"checkpoint {str(place)!r} says of itself {key} = {value!r}; it must be {bounds}")
    if facts.get("args", {}).get("dilation"):
        raise InputError(f"checkpoint {str(place)!r} has a dilated backbone (DC5), which is not built here")
    try:
        levels, width = state["transformer.level_embed"].shape
        found = {
            "name": "deformable_detr",
            "backbone": _body(state),
            "width": width,
            "encoder_layers": _count(state, r"transformer\.encoder\.layers\.(\d+)\."),
            "decoder_layers": _count(state, r"transformer\.decoder\.layers\.(\d+)\."),
            "ffn": len(state["transformer.decoder.layers.0.linear1.bias"]),
            "levels": levels,
            "box_refinement": "transformer.decoder.bbox_embed.0.layers.0.bias" in state,
            "two_stage": "transformer.enc_output.bias" in state,
        }
        product = len(state[_OFFSETS]) // levels // 2
        if not found["two_stage"]:
            found["queries"] = len(state["query_embed.weight"])
    except KeyError as error:
        what = f"lacks {error.args[0]}, which every Deformable DETR on a ResNet has"
        raise InputError(f"checkpoint {str(place)!r} {what}") from None
    except (TypeError, ValueError, ZeroDivisionError):
        what = "has tensors of Deformable DETR's names, but not of as many dimensions"
        raise InputError(f"checkpoint {str(place)!r} {what}") from None
    layers = [*found["backbone"]["layers"], found["encoder_layers"], found["decoder_layers"]]
    if max(layers) > _MOST_LAYERS:
        raise InputError(
            f"checkpoint {str(place)!r} has names of a layer {max(layers) - 1}; {_MOST_LAYERS} are believed"
        )
    usual = _PUBLISHED["heads"] if product == _PUBLISHED["heads"] * _PUBLISHED["points"] else None
    heads = heads or stated.get("heads") or usual
    if heads is None or heads < 1 or product % heads:
        given = "it does not say of how many heads" if heads is None else f"not of {heads} heads"
        raise InputError(f"checkpoint {str(place)!r} is of {product} = heads x points a level, {given}; give --heads")
    rest = {key: stated.get(key, _PUBLISHED[key]) for key in ("dropout", "queries")}
    found = rest | found | {"heads": heads, "points": product // heads}
    return {key: found[key] for key in _ORDER}


def says_heads(facts: dict) -> bool:
    """Whether a file tells of how many heads it is."""
    return "heads" in _stated(facts)


def classes(state: dict[str, Tensor]) -> int | None:
    """Rows of the class head; None where there is none, as after our pretraining."""
    return len(state["class_embed.0.bias"]) if "class_embed.0.bias" in state else None


def _stated(facts: dict) -> dict:
    given = facts["detector"] if "detector" in facts else facts.get("args", {})
    names = {"heads": "nheads", "dropout": "dropout", "queries": "num_queries"}
    names = {ours: ours if "detector" in facts else theirs for ours, theirs in names.items()}
    return {ours: given[name] for ours, name in names.items() if name in given}


def _body(state: dict[str, Tensor]) -> dict:
    at = "backbone.0.body."
    bottleneck = f"{at}layer1.0.conv3.weight" in state
    numbers = range(1, 5)
    return {
        "block": "bottleneck" if bottleneck else "basic",
        "layers": [_count(state, rf"backbone\.0\.body\.layer{number}\.(\d+)\.") for number in numbers],
        "stem": len(state[f"{at}conv1.weight"]),
        "widths": [len(state[f"{at}layer{number}.0.conv1.weight"]) for number in numbers],
    }


def _count(state: dict[str, Tensor], pattern: str) -> int:
    """How many layers of a list there are; the highest number among its names, so that a gap shows as missing."""
    return max((int(m[1]) + 1 for key in state if (m := re.match(pattern, key))), default=0)

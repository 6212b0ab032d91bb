"""Which Deformable DETR a state dict belongs to, read from its names and shapes."""

import re
from pathlib import Path

from torch import Tensor

from proseco.base.errors import InputError

_OFFSETS = "transformer.decoder.layers.0.cross_attn.sampling_offsets.bias"
_ORDER = ("name", "backbone", "width", "heads", "encoder_layers", "decoder_layers", "ffn", "dropout", "levels")
_ORDER += ("points", "queries", "box_refinement", "two_stage")
#: Published values, for files that do not say.
_PUBLISHED = {"heads": 8, "points": 4, "dropout": 0.1, "queries": 300}
_MOST_LAYERS = 1000  # in one list; a name with a higher number is nonsense, and all its layers would be built


def entry(state: dict[str, Tensor], facts: dict, *, heads: int | None = None, place: str | Path) -> dict:
    """The entry under ``scales.<scale>.detector`` that builds this network, without ``num_classes``.

    Shapes tell all but four numbers: how ``heads`` and ``points`` share their product, ``dropout``, and how many
    ``queries`` the two-stage variant keeps. Those come from the file's facts, which are our own entry or the options of
    the public programs, else from the published values.

    :param state: a state dict in the public names; meta tensors will do.
    :param facts: as :func:`proseco.weights.reading.read` returns them.
    :param heads: the number of heads, for files that do not say it and do not fit 8 heads with 4 points.
    :param place: the file, for messages.
    :raises InputError: a name that every Deformable DETR has is missing or has an impossible shape; a fact is not a
        number in its range; the heads are unknown or do not fit; or the backbone is dilated, which looks the same in
        the weights and computes something else.
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
        options = {
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
        if not options["two_stage"]:
            options["queries"] = len(state["query_embed.weight"])
    except KeyError as error:
        problem = f"lacks {error.args[0]}, which every Deformable DETR on a ResNet has"
        raise InputError(f"checkpoint {str(place)!r} {problem}") from None
    except (TypeError, ValueError, ZeroDivisionError):
        problem = "has tensors of Deformable DETR's names, but not of as many dimensions"
        raise InputError(f"checkpoint {str(place)!r} {problem}") from None
    layers = [*options["backbone"]["layers"], options["encoder_layers"], options["decoder_layers"]]
    if max(layers) > _MOST_LAYERS:
        raise InputError(
            f"checkpoint {str(place)!r} has names of a layer {max(layers) - 1}; {_MOST_LAYERS} are believed"
        )
    usual = _PUBLISHED["heads"] if product == _PUBLISHED["heads"] * _PUBLISHED["points"] else None
    heads = heads or stated.get("heads") or usual
    if heads is None or heads < 1 or product % heads:
        reason = "it does not say of how many heads" if heads is None else f"not of {heads} heads"
        raise InputError(f"checkpoint {str(place)!r} is of {product} = heads x points a level, {reason}; give --heads")
    unshown = {key: stated.get(key, _PUBLISHED[key]) for key in ("dropout", "queries")}
    options = unshown | options | {"heads": heads, "points": product // heads}
    return {key: options[key] for key in _ORDER}


def says_heads(facts: dict) -> bool:
    """Whether the facts of a file give the number of heads."""
    return "heads" in _stated(facts)


def classes(state: dict[str, Tensor]) -> int | None:
    """The number of rows of the class head; None where there is no head, as after our pretraining."""
    return len(state["class_embed.0.bias"]) if "class_embed.0.bias" in state else None


def _stated(facts: dict) -> dict:
    """What the facts say of the numbers that shapes do not show, under our names."""
    options = facts["detector"] if "detector" in facts else facts.get("args", {})
    names = {"heads": "nheads", "dropout": "dropout", "queries": "num_queries"}
    names = {ours: ours if "detector" in facts else theirs for ours, theirs in names.items()}
    return {ours: options[name] for ours, name in names.items() if name in options}


def _body(state: dict[str, Tensor]) -> dict:
    prefix = "backbone.0.body."
    bottleneck = f"{prefix}layer1.0.conv3.weight" in state
    numbers = range(1, 5)
    return {
        "block": "bottleneck" if bottleneck else "basic",
        "layers": [_count(state, rf"backbone\.0\.body\.layer{number}\.(\d+)\.") for number in numbers],
        "stem": len(state[f"{prefix}conv1.weight"]),
        "widths": [len(state[f"{prefix}layer{number}.0.conv1.weight"]) for number in numbers],
    }


def _count(state: dict[str, Tensor], pattern: str) -> int:
    """The number of layers in a list: the highest number among its names plus one, so that a gap shows as missing."""
    return max((int(m[1]) + 1 for key in state if (m := re.match(pattern, key))), default=0)

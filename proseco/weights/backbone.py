"""Backbone weights: the public ResNet checkpoints (torchvision, SwAV, SCRL), and ours, into torchvision's names."""

from pathlib import Path

from torch import Tensor

from proseco.base.errors import InputError, one_of
from proseco.weights import reading

_STEM, _DEEP = "conv1.weight", "layer4.0.conv1.weight"
_PARTS = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")
#: Where a ResNet's children were put into a Sequential, as in SCRL's program, their numbers are their names.
_NUMBERED = dict(zip(("0.", "1.", "4.", "5.", "6.", "7."), _PARTS, strict=True))


def read(path: str | Path, *, prefix: str | None = None) -> dict[str, Tensor]:
    """State dict of a ResNet in torchvision's names, without its classifier.

    Public files wrap it in dictionaries (``state_dict``, ``model``), prefix its names (``module.``, as SwAV's
    DataParallel; ``online_network_state_dict.encoder.``, as SCRL's) and carry heads beside it; what is below the one
    prefix that has ``conv1`` and ``layer4``, or a Sequential's numbers for them, is taken.

    :param prefix: which one, where the file has several networks.
    :raises InputError: missing, unreadable, holding no ResNet or several.
    """
    tensors, _ = reading.read(path)
    networks = {place: {part: part for part in _PARTS} for place in _places(tensors, _STEM, _DEEP)}
    networks |= dict.fromkeys(_places(tensors, "0.weight", "7.0.conv1.weight"), _NUMBERED)
    found = sorted(networks)
    if prefix is not None and found:
        if prefix not in found:
            raise one_of("prefix", prefix, map(repr, found), str(path))
        found = [prefix]
    if len(found) != 1:
        what = f"several ResNets ({', '.join(found)}); choose one with prefix" if found else "no ResNet"
        raise InputError(f"checkpoint {str(path)!r} holds {what}; its names begin {sorted(tensors)[:3]}")
    state = {}
    for old, new in networks[found[0]].items():
        beginning = found[0] + old
        for key, tensor in tensors.items():
            if key.startswith(beginning) and not key.endswith("num_batches_tracked"):
                state[new + key.removeprefix(beginning)] = tensor.float()
    return state


def _places(tensors: dict[str, Tensor], stem: str, deep: str) -> list[str]:
    """What stands before the name of a first convolution, where the same stands before that of a last stage."""
    return [k.removesuffix(stem) for k in tensors if k.endswith(stem) and k.removesuffix(stem) + deep in tensors]

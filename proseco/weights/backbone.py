"""Backbone weights in torchvision's names, read from public ResNet checkpoints (torchvision, SwAV, SCRL) or ours."""

from pathlib import Path

from torch import Tensor

from proseco.base.errors import InputError, one_of
from proseco.weights import checkpoint, reading

_STEM, _DEEP = "conv1.weight", "layer4.0.conv1.weight"
_PARTS = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")
#: In a Sequential, such as SCRL's program makes of a ResNet, the parts have numbers for names.
_NUMBERED = dict(zip(("0.", "1.", "4.", "5.", "6.", "7."), _PARTS, strict=True))


def read(path: str | Path, *, prefix: str | None = None) -> dict[str, Tensor]:
    """State dict of a ResNet in torchvision's names, float32, without its classifier.

    Public files wrap it in dictionaries (``state_dict``, ``model``), put prefixes before its names (``module.`` by
    SwAV's DataParallel, ``online_network_state_dict.encoder.`` in SCRL's) and hold heads too. What is taken stands
    below the one prefix that has ``conv1`` and ``layer4``, or a Sequential's numbers for them.

    :param prefix: the prefix to take, where the file has several networks.
    :raises InputError: the file is missing or unreadable, or holds no ResNet or several, or values that are not finite.
    """
    tensors, _ = reading.read(path)
    networks = {start: {part: part for part in _PARTS} for start in _prefixes(tensors, _STEM, _DEEP)}
    networks |= dict.fromkeys(_prefixes(tensors, "0.weight", "7.0.conv1.weight"), _NUMBERED)
    prefixes = sorted(networks)
    if prefix is not None and prefixes:
        if prefix not in prefixes:
            raise one_of("prefix", prefix, map(repr, prefixes), str(path))
        prefixes = [prefix]
    if len(prefixes) != 1:
        content = f"several ResNets ({', '.join(prefixes)}); choose one with prefix" if prefixes else "no ResNet"
        raise InputError(f"checkpoint {str(path)!r} holds {content}; its names begin {sorted(tensors)[:3]}")
    state = {}
    for old, new in networks[prefixes[0]].items():
        start = prefixes[0] + old
        for key, tensor in tensors.items():
            if key.startswith(start) and not key.endswith("num_batches_tracked"):
                state[new + key.removeprefix(start)] = tensor
    checkpoint.check_values(state, path)
    return {key: tensor.float() for key, tensor in state.items()}


def _prefixes(tensors: dict[str, Tensor], stem: str, deep: str) -> list[str]:
    """The prefixes under which there are both a first convolution (``stem``) and a last stage (``deep``)."""
    return [k.removesuffix(stem) for k in tensors if k.endswith(stem) and k.removesuffix(stem) + deep in tensors]

"""Backbone weights: the public ResNet checkpoints (torchvision, SwAV, SCRL), and ours, into torchvision's names."""

from pathlib import Path

from torch import Tensor

from proseco.base.errors import InputError, one_of
from proseco.weights import reading

_STEM, _DEEP = "conv1.weight", "layer4.0.conv1.weight"


def read(path: str | Path, *, prefix: str | None = None) -> dict[str, Tensor]:
    """State dict of a ResNet in torchvision's names, without its classifier.

    Public files wrap it in dictionaries (``state_dict``, ``model``), prefix its names (``module.``, as SwAV's
    DataParallel; ``online_network.``, as BYOL's descendants) and carry heads beside it; what is below the one prefix
    that has ``conv1`` and ``layer4`` is taken.

    :param prefix: which one, where the file has several networks.
    :raises InputError: missing, unreadable, holding no ResNet or several.
    """
    tensors, _ = reading.read(path)
    found = sorted(k.removesuffix(_STEM) for k in tensors if k.endswith(_STEM) and k[: -len(_STEM)] + _DEEP in tensors)
    if prefix is not None and found:
        if prefix not in found:
            raise one_of("prefix", prefix, map(repr, found), str(path))
        found = [prefix]
    if len(found) != 1:
        what = f"several ResNets ({', '.join(found)}); choose one with prefix" if found else "no ResNet"
        raise InputError(f"checkpoint {str(path)!r} holds {what}; its names begin {sorted(tensors)[:3]}")
    body = ("conv1.", "bn1.", "layer1.", "layer2.", "layer3.", "layer4.")
    names = {key: key.removeprefix(found[0]) for key in tensors if key.startswith(found[0])}
    return {
        name: tensors[key].float()
        for key, name in names.items()
        if name.startswith(body) and not name.endswith("num_batches_tracked")
    }

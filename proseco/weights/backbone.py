"""Backbone weights: the public ResNet checkpoints (torchvision, SwAV, SCRL), and ours, into torchvision's names."""

import argparse
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from proseco.base.errors import InputError, one_of

_STEM, _DEEP = "conv1.weight", "layer4.0.conv1.weight"


def read(path: str | Path, *, prefix: str | None = None) -> dict[str, Tensor]:
    """State dict of a ResNet in torchvision's names, without its classifier.

    Public files wrap it in dictionaries (``state_dict``, ``model``), prefix its names (``module.``, as SwAV's
    DataParallel; ``online_network.``, as BYOL's descendants) and carry heads beside it; what is below the one prefix
    that has ``conv1`` and ``layer4`` is taken.

    :param prefix: which one, where the file has several networks.
    :raises InputError: missing, unreadable, holding no ResNet or several.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint {str(path)!r}")
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            with torch.serialization.safe_globals([argparse.Namespace]):  # the DETR family stores its arguments
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # rubbish makes an unpickler raise anything, KeyError and IndexError among them
        raise InputError(f"cannot read checkpoint {str(path)!r}: {_reason(error)}") from None
    tensors = dict(_tensors(content))
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


def _reason(error: Exception) -> str:
    """One line; torch's own advice is to load without protection."""
    held = re.search(r"GLOBAL (\S+)", str(error))
    if held:
        return f"it holds {held[1]}; only tensors and plain values are read"
    if isinstance(error, SafetensorError | RuntimeError | OSError):
        return str(error).partition("\n")[0]
    return "it is no file of torch.save"


def _tensors(content, at: str = ""):
    """(name, tensor) of nested dictionaries; the names of wrapping dictionaries are left out."""
    if isinstance(content, dict):
        for key, value in content.items():
            if isinstance(value, Tensor):
                yield f"{at}{key}", value
            elif key in ("state_dict", "model", "model_state_dict"):
                yield from _tensors(value, at)
            elif isinstance(value, dict):
                yield from _tensors(value, f"{at}{key}.")

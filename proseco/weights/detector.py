"""Detector weights in the public names, read from the Deformable DETR and DETReg files or ours."""

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from proseco.base.errors import InputError, one_of
from proseco.weights import checkpoint, reading

#: A name that Deformable DETR has and no other model.
_MARK = "transformer.decoder.layers.0.cross_attn.sampling_offsets.weight"
#: What the names of Deformable DETR begin with. Files may also hold heads of other tasks (DETReg's feature_embed).
_PARTS = ("backbone.", "input_proj.", "transformer.", "query_embed.", "class_embed.", "bbox_embed.")
#: Other models and patterns of their names; the first that fits counts.
_OTHERS = (
    ("Deformable DETR in the names of transformers", r"decoder\.layers\.0\.encoder_attn\.sampling_offsets\."),
    ("DETR in the names of transformers", r"decoder\.layers\.0\.encoder_attn\.[kq]_proj\."),
    ("plain DETR", r"transformer\.encoder\.layers\.0\.self_attn\.in_proj_weight$"),
    ("Mask R-CNN", r"roi_heads\.mask_"),
    ("Faster R-CNN", r"roi_heads\.box_"),
    ("FCOS", r"head\.regression_head\.bbox_ctrness\."),
    ("RetinaNet", r"head\.regression_head\.bbox_reg\."),
    ("a vision transformer", r"blocks\.0\.attn\.qkv\.|encoder_layer_0\.self_attention\."),
    ("a ResNet, which may stand under scales.<scale>.backbones", r"layer4\.0\.conv1\.weight$"),
)


@dataclass(frozen=True)
class Detector:
    """One Deformable DETR of a file, and what else the file holds."""

    #: Public name -> weight, float32.
    state: dict[str, Tensor]
    #: Names of all other tensors: heads of other tasks, other networks, the optimizer's.
    other_names: list[str]
    #: What the file says of itself, see :func:`proseco.weights.reading.read`.
    facts: dict


def read(path: str | Path, *, network: str | None = None) -> Detector:
    """The detector of a ``.pth`` or ``.safetensors`` file.

    Wrapping dictionaries and prefixes (``module.`` of DataParallel, ``student.`` of ours) are stripped; the counters of
    batch norm, which is frozen here, are left out.

    :param network: the prefix to take, where the file has several networks.
    :raises InputError: the file is missing or unreadable, is of another model (the message says which), or holds
        several networks or values that are not finite.
    """
    tensors, facts = reading.read(path)
    marked = [key.removesuffix(_MARK) for key in tensors if key.endswith(_MARK)]
    prefixes = {prefix.removesuffix("."): prefix for prefix in marked}
    if not prefixes:
        raise InputError(
            f"checkpoint {str(path)!r} looks like {_name(tensors)}, not like Deformable DETR; "
            f"its names begin {sorted(tensors)[:3]}"
        )
    if network is None:
        if len(prefixes) > 1 and "" not in prefixes:
            raise InputError(
                f"checkpoint {str(path)!r} holds the networks {', '.join(sorted(prefixes))}; choose one (network)"
            )
        network = "" if "" in prefixes else next(iter(prefixes))
    if network not in prefixes:
        raise one_of("network", network, prefixes, str(path))
    prefix = prefixes[network]
    state, other_names = {}, []
    for key, value in tensors.items():
        name = key.removeprefix(prefix)
        if not key.startswith(prefix) or not name.startswith(_PARTS):
            other_names.append(name)
        elif not name.endswith("num_batches_tracked"):
            state[name] = value
    checkpoint.check_values(state, path)
    return Detector({name: value.float() for name, value in state.items()}, other_names, facts)


def _name(tensors: dict[str, Tensor]) -> str:
    """Which model the names of the tensors look like."""
    for model, pattern in _OTHERS:
        if any(re.search(pattern, key) for key in tensors):
            return model
    return "no model that is known here"

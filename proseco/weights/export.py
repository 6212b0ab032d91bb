"""Writing a detector for other programs, whole or not at all."""

import json
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from proseco.base import files
from proseco.base.errors import one_of
from proseco.training import torch_files
from proseco.weights import huggingface

#: Statistics of ImageNet and image sizes of Deformable DETR's evaluation, in the keys of its image processor.
_PROCESSOR = {
    "image_processor_type": "DeformableDetrImageProcessor",
    "format": "coco_detection",
    "size": {"shortest_edge": 800, "longest_edge": 1333},
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def write(path: str | Path, to: str, state: dict[str, Tensor], *, detector: dict, classes: list[str] | None) -> None:
    """Write a detector.

    :param to: the format. ``deformable_detr``: a ``.pth`` file ``{"model": state dict, "args": options}``, from which
        the public program resumes. ``transformers``: a folder for ``from_pretrained``. ``safetensors``: a file in the
        public names, with the detector's entry and classes in ``<name>.json`` beside it.
    :param state: in the public names; ``transformers`` needs a class head.
    :param detector: all keywords that shape the network; see :mod:`proseco.weights.architecture`.
    :param classes: names of the class head's rows; None without a class head.
    :raises InputError: no such format.
    """
    if to not in FORMATS:
        raise one_of("format", to, FORMATS)
    # Tied heads are written under each of their names, as the public files have them.
    state = {key: value.detach().cpu().clone().contiguous() for key, value in state.items()}
    FORMATS[to](Path(path), state, detector, classes)


def _deformable_detr(path: Path, state: dict, detector: dict, classes: list[str] | None) -> None:
    # What shapes do not show, under the public program's names; a dict, as not every reader accepts a Namespace.
    options = {"nheads": "heads", "enc_n_points": "points", "dec_n_points": "points", "num_queries": "queries"}
    args = {theirs: detector[ours] for theirs, ours in options.items()} | {"dropout": detector["dropout"]}
    with files.replacing(path) as part:
        torch_files.save({"model": state, "args": args}, part)


def _safetensors(path: Path, state: dict, detector: dict, classes: list[str] | None) -> None:
    facts = {"detector": detector, "classes": classes}
    with files.replacing(path) as part:
        part.write_bytes(save(state, metadata={"proseco": json.dumps(facts, sort_keys=True)}))
    files.write_json(path.with_suffix(".json"), facts)


def _transformers(path: Path, state: dict, detector: dict, classes: list[str]) -> None:
    tensors = {key: value.clone() for key, value in huggingface.rename(state).items()}
    with files.replacing(path) as part:
        part.mkdir()
        (part / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
        files.write_json(part / "config.json", huggingface.config(detector, classes))
        files.write_json(part / "preprocessor_config.json", _PROCESSOR)


FORMATS = {"deformable_detr": _deformable_detr, "transformers": _transformers, "safetensors": _safetensors}

"""The checkpoint that a method without pretraining starts from: its backbone and nothing else. Needs no torch."""

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from proseco.base import files, provenance
from proseco.base.errors import InputError

#: Prefix of the backbone in the file, that of Deformable DETR's public layout, whichever detector it is for.
BODY = "backbone.0.body."


def write(out: str | Path, backbone: str | Path, results: Path) -> None:
    """Write a checkpoint whose ``student`` and ``teacher`` hold the backbone alone; finetuning initialises the rest.

    :param backbone: file of stage ``backbone``, with tensors ``backbone.<torchvision name>``.
    :param results: folder for ``metrics.json`` and ``run.json``.
    :raises InputError: the backbone's file cannot be read.
    """
    try:
        weights = {key.removeprefix("backbone."): value for key, value in load_file(backbone).items()}
    except (OSError, SafetensorError, TypeError) as error:  # TypeError: of a precision that NumPy lacks
        raise InputError(f"cannot read checkpoint {str(backbone)!r}: {error}") from None
    weights = {key: value for key, value in weights.items() if not key.startswith("fc.")}
    tensors = {f"{network}.{BODY}{key}": value for network in ("student", "teacher") for key, value in weights.items()}
    Path(out).write_bytes(save(tensors, metadata={"proseco": json.dumps({"method": None}, sort_keys=True)}))
    files.write_json(results / "metrics.json", {"steps": 0})
    files.write_json(results / "run.json", provenance.record(method=None, backbone=files.digest(backbone)))

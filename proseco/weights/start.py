"""The starting point of a method that is not pretrained: its backbone, and nothing else. Needs no torch."""

import json
from pathlib import Path

from safetensors.numpy import load_file, save

from proseco.base import files, provenance

#: Where this file keeps the backbone, whichever detector it will be put into: Deformable DETR's public layout.
BODY = "backbone.0.body."


def write(out: str | Path, backbone: str | Path, results: Path) -> None:
    """Write a checkpoint whose ``student`` and ``teacher`` hold the backbone alone; finetuning draws the rest.

    :param backbone: file of stage ``backbone``: ``backbone.<torchvision name>``.
    :param results: folder for ``metrics.json`` and ``run.json``.
    """
    weights = {key.removeprefix("backbone."): value for key, value in load_file(backbone).items()}
    weights = {key: value for key, value in weights.items() if not key.startswith("fc.")}
    tensors = {f"{who}.{BODY}{key}": value for who in ("student", "teacher") for key, value in weights.items()}
    Path(out).write_bytes(save(tensors, metadata={"proseco": json.dumps({"method": None}, sort_keys=True)}))
    files.write_json(results / "metrics.json", {"steps": 0})
    files.write_json(results / "run.json", provenance.record(method=None, backbone=files.digest(backbone)))

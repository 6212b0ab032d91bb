"""params.yaml with the run that it is published with, whatever has been selected in it since."""

import copy
import re
import shutil
from pathlib import Path

from proseco.base import params

FILE = Path(__file__).resolve().parents[1] / "params.yaml"
RUN = {
    "methods": ["supervised", "proseco"],
    "benchmarks": ["mini_coco_5", "mini_voc_10"],
    "seeds": [42, 43],
    "ablations": [],
    "ablation_benchmarks": [],
    "unlabelled": ["main"],
}


def parameters() -> dict:
    return params.load(FILE) | {"scale": "demo", "run": copy.deepcopy(RUN)}


def write(folder: Path) -> Path:
    """Into the folder, as ``params.yaml``."""
    path = Path(shutil.copy(FILE, folder))
    path.write_text(re.sub(r"^scale: \S+", "scale: demo", path.read_text(), flags=re.MULTILINE))
    params.replace("run", RUN, path)
    return path

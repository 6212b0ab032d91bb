"""The code of docs/library.md, run as one program in a folder that has the files it names."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proseco.base import plugins
from proseco.weights import checkpoint
from tests import making
from tests.test_contracts import small

PAGE = Path(__file__).resolve().parents[1] / "docs/library.md"
CLASSES = ["boat", "buoy"]


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """photo.jpg, detector.safetensors and shards."""
    folder = tmp_path_factory.mktemp("library")
    rows, columns = np.mgrid[:90, :120]
    scene = np.stack([rows * 2, columns * 2, (rows // 20 + columns // 30) % 2 * 200], -1).astype(np.uint8)
    (folder / "images").mkdir()
    for path in (folder / "photo.jpg", folder / "images/a.jpg", folder / "images/b.jpg"):
        Image.fromarray(scene).save(path)
    making.write(folder / "shards", folder / "images")
    entry = small("detectors", "deformable_detr", num_classes=0)
    model = plugins.call("detectors", entry, num_classes=len(CLASSES))
    facts = {"detector": entry, "classes": CLASSES, "category_ids": [7, 3], "benchmark": "harbour"}
    checkpoint.save(folder / "detector.safetensors", {"detector": model.state_dict()}, facts)
    return folder


def test_the_page_s_code_runs(given, monkeypatch):
    monkeypatch.chdir(given)
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))
    program = {}
    exec(compile(code, str(PAGE), "exec"), program)
    height, width = program["image"].shape[:2]
    assert len(program["boxes"]) and (program["boxes"] <= [width, height] * 2).all()
    assert program["student"].grad.abs().sum() > 0
    assert [len(columns.unique()) for _, columns in program["pairs"]] == [30] * 8
    assert program["attended"].shape == (2, 300, 256)
    assert program["sample"].key == "b" and len(program["sample"].boxes_xyxy)
    assert set(program["names"]) == set(CLASSES)
    assert program["figures"]["AP50"] == 100 and program["figures"]["AP"] == pytest.approx(90)
    assert program["figures"]["VOC"] == program["figures"]["AP"]

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest
from pycocotools.coco import COCO

from proseco.base.errors import InputError
from proseco.base.files import read_json
from proseco.commands import export_split
from proseco.data import id_files
from stages import split

ROOT = Path(__file__).resolve().parents[2]


def test_a_split_as_coco_json(folder, capsys):
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(text.replace("validation: 60", "validation: 2"))
    split.main(scale="demo", benchmark="mini_coco_10")
    export_split.main(benchmark="mini_coco_10", seed=43, out="sub/mine.json")
    assert "sub/mine.json: 1 images" in capsys.readouterr().out
    with contextlib.redirect_stdout(io.StringIO()):
        found = COCO("sub/mine.json")
        official = COCO("data/demo/coco/annotations/instances_train2017.json")
    assert sorted(map(str, found.imgs)) == id_files.read("splits/demo/mini_coco_10/43/train.txt")
    assert {c["id"]: c["name"] for c in found.cats.values()} == {c["id"]: c["name"] for c in official.cats.values()}
    for image in found.imgs.values():
        assert (Path("data/demo/coco") / image["file_name"]).is_file()
        theirs = official.imgToAnns[image["id"]]
        keys = ("id", "category_id", "bbox", "area", "iscrowd")
        mine = [{key: record[key] for key in keys} for record in found.imgToAnns[image["id"]]]
        assert mine == [{key: record[key] for key in keys} for record in theirs]
    export_split.main(benchmark="mini_coco_10", seed=43, out="test.json", part="test")
    assert len(read_json("test.json")["images"]) == 6
    with pytest.raises(InputError, match=r"no train of seed 44 in '.*mini_coco_10'; there is 42/test, .*, 43/val \("):
        export_split.main(benchmark="mini_coco_10", seed=44, out="x.json")
    with pytest.raises(InputError, match=r"no vall of seed 43 in .*43/val \(stage split@demo-mini_coco_10 writes them"):
        export_split.main(benchmark="mini_coco_10", seed=43, out="x.json", part="vall")
    with pytest.raises(InputError, match="there is nothing"):
        export_split.main(benchmark="mini_voc_5", seed=42, out="x.json")
    with pytest.raises(InputError, match="'sub' is a folder; expected the name of a file"):
        export_split.main(benchmark="mini_coco_10", seed=43, out="sub")
    assert Path("sub/mine.json").is_file()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("check-data", "--benchmark", "nope"), 1, "error: no key of benchmarks named 'nope'; there is coco_1x"),
        (("export-split", "--benchmark", "coco_1x", "--out", "x"), 2, "required: --seed"),
        (("chekc-data",), 2, "invalid choice: 'chekc-data'"),
        ((), 2, "cells|check-data|cost|export-split"),
    ],
)
def test_the_command_line(words, code, text):
    done = subprocess.run(
        [sys.executable, "-m", "proseco", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == code and text in done.stderr and "Traceback" not in done.stderr

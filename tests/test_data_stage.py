"""Stage data replaces its folder; what others have put there it must not."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from proseco.base.errors import InputError
from stages import data
from tests import params_file

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A function that writes params.yaml with other ``generate`` and ``roots`` of the demo, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    whole = params_file.parameters()

    def write(generate, roots):
        whole["scales"]["demo"] |= {"generate": generate, "roots": roots}
        YAML().dump(whole, Path("params.yaml"))

    return write


def test_a_data_set_of_the_user_stays(settings):
    mine = Path("data/demo/coco/annotations/instances_val2017.json")
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    settings(None, {"coco": "data/demo/coco"})
    with pytest.raises(InputError, match="'data/demo/coco' is not of this stage, which replaces all of 'data/demo'"):
        data.main(scale="demo")
    assert mine.read_text() == "mine"


def test_nor_does_the_demo_replace_what_it_has_not_drawn(settings):
    few = {"scenes": 1, "objects": 12, "coco_train": 1, "coco_val": 1, "voc_trainval": 2, "voc_test": 1}
    settings({"seed": 0, "side": 48, "object_side": 32, "fsod_train": 1, "fsod_test": 1, **few}, {})
    data.main(scale="demo")
    assert {path.name for path in Path("data/demo").iterdir()} == data.DRAWN - {"scenes.png"}
    Path("data/demo/.DS_Store").touch()  # a file browser's, and no data set
    Path("data/demo/scenes.png").touch()  # a former version's
    data.main(scale="demo")  # again, in its own place
    Path("data/demo/harbour").mkdir()
    with pytest.raises(InputError, match="'data/demo/harbour' is not of this stage"):
        data.main(scale="demo")


def test_data_sets_elsewhere_are_listed(settings, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    settings(None, {"coco": "elsewhere", "voc": None})
    for _ in range(2):
        data.main(scale="demo")
    assert {path.name for path in Path("data/demo").iterdir()} == data.OURS


def test_all_that_are_missing_are_named_together(settings, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    settings(None, {"coco": "elsewhere", "voc": "../no/voc", "fsod": "../no/fsod", "imagenet": None})
    with pytest.raises(InputError) as caught:
        data.main(scale="demo")
    (line,) = str(caught.value).splitlines()
    assert "scales.demo.roots.voc: no folder '../no/voc'" in line and "roots.fsod: no folder '../no/fsod'" in line
    assert "coco" not in line and "imagenet" not in line and line.endswith("may be null")
    assert not Path("data/demo").exists()


def test_dvc_leaves_the_folder_to_the_stage():
    (out,) = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]["data"]["do"]["outs"]
    assert out == {"data/${item}": {"persist": True}}

from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from proseco.base.errors import InputError
from proseco.base.files import digest, read_json
from proseco.data import listing
from stages import inventory
from tests import params_file

ROOT = Path(__file__).resolve().parents[1]


def test_a_manifest_for_each_reader(tmp_path, monkeypatch):
    """So that a stage depends on its own data set alone."""
    content = params_file.parameters()
    section = content["scales"]["demo"]
    for count, name in enumerate(("imagenet", "coco", "scenes", "mine"), 1):
        (tmp_path / name / "train").mkdir(parents=True)
        for number in range(count):
            (tmp_path / name / f"train/{number}.jpg").touch()
    section["roots"] = {"imagenet": "imagenet", "coco": "coco", "scenes": "scenes", "voc": None, "fsod": None}
    content["benchmarks"]["mine"] = {**content["benchmarks"]["coco_1x"], "root": "./mine"}
    content["run"]["benchmarks"] = ["mini_coco_1", "coco_1x", "mine"]
    monkeypatch.chdir(tmp_path)
    out = Path("work/demo/inventory")

    def counts():
        YAML().dump(content, Path("params.yaml"))
        inventory.main(scale="demo")
        return {path.stem: read_json(path)["images"] for path in (out / "benchmarks").iterdir()}

    assert counts() == {"mini_coco_1": 2, "coco_1x": 2, "mine": 4}
    trained = {name for name, entry in section["backbones"].items() if "root" in entry}
    assert {name: found["images"] for name, found in read_json(out / "backbones.json").items()} == dict.fromkeys(
        trained, 1
    )
    before = {path: digest(path) for path in (out / "backbones.json", out / "benchmarks/coco_1x.json")}
    (tmp_path / "mine/train/more.jpg").touch()
    content["run"]["benchmarks"] = ["mine", "coco_1x"]
    section["propose"]["unlabelled"]["main"]["root"] = "./mine"
    assert counts() == {"coco_1x": 2, "mine": 5}
    assert {path: digest(path) for path in before} == before
    assert len(listing.load(out / "unlabelled/main.tsv")) == 5


def test_stored_boxes_are_known_by_their_content(tmp_path, monkeypatch):
    """As many boxes of another program make files of the same size."""
    content = params_file.parameters()
    section = content["scales"]["demo"]
    for name in ("scenes/train/a.jpg", "coco/train2017/a.jpg", "imagenet/train/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "boxes/train").mkdir(parents=True)
    np.save(tmp_path / "boxes/train/a.npy", np.zeros((2, 4)))
    section["roots"] = {"imagenet": "imagenet", "coco": "coco", "scenes": "scenes", "sam": "boxes"}
    own = {"proposals": {"name": "stored", "root": "sam"}}
    section["propose"]["unlabelled"]["other"] = section["propose"]["unlabelled"]["main"] | own
    content["run"] |= {"benchmarks": ["mini_coco_1"], "unlabelled": ["main", "other"]}
    monkeypatch.chdir(tmp_path)
    YAML().dump(content, Path("params.yaml"))

    def surveys():
        inventory.main(scale="demo")
        return {path.stem: read_json(path) for path in Path("work/demo/inventory/proposals").iterdir()}

    before = surveys()
    assert before["main"] is None and before["other"]["files"] == 1
    assert surveys() == before
    np.save(tmp_path / "boxes/train/a.npy", np.ones((2, 4)))
    after = surveys()
    assert after["other"] | {"digest": ""} == before["other"] | {"digest": ""} and after != before
    whole = read_json("work/demo/inventory/boxes.json")
    (tmp_path / "boxes/val").mkdir()
    np.save(tmp_path / "boxes/val/b.npy", np.ones((2, 4)))  # of test images: nothing that propose reads
    assert surveys() == after and read_json("work/demo/inventory/boxes.json")["sam"] != whole["sam"]
    (tmp_path / "scenes/train/a.png").touch()
    with pytest.raises(InputError, match=r"'a\.jpg' and 'a\.png' would have one file of stored boxes; rename"):
        surveys()
    (tmp_path / "scenes/train/a.png").unlink()
    (tmp_path / "boxes/train/a.npy").unlink()
    with pytest.raises(InputError, match=r"no file of boxes \(\.npy\) in 'boxes/train'"):
        surveys()


def test_a_listing_of_each_selected_set_of_unlabelled_images(tmp_path, monkeypatch):
    """Two of them may be folders of one data set."""
    content = params_file.parameters()
    section = content["scales"]["demo"]
    for count, name in enumerate(("scenes/train", "coco/train2017", "coco/val2017", "imagenet/train"), 1):
        (tmp_path / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / name / f"{number}.jpg").touch()
    section["roots"] = {"imagenet": "imagenet", "coco": "coco", "scenes": "scenes", "voc": None, "fsod": None}
    section["propose"]["unlabelled"]["more"] = {"root": "coco", "subset": "val2017"}
    content["run"] |= {"benchmarks": ["mini_coco_1"], "unlabelled": ["main", "coco", "more"]}
    monkeypatch.chdir(tmp_path)
    YAML().dump(content, Path("params.yaml"))
    inventory.main(scale="demo")
    found = {path.stem: len(listing.load(path)) for path in Path("work/demo/inventory/unlabelled").iterdir()}
    assert found == {"main": 1, "coco": 2, "more": 3}

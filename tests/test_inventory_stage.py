import shutil
from pathlib import Path

from ruamel.yaml import YAML

from proseco.base import params
from proseco.base.files import read_json
from proseco.data import listing
from stages import inventory

ROOT = Path(__file__).resolve().parents[1]


def test_a_manifest_for_each_data_set_that_the_run_needs(tmp_path, monkeypatch):
    """A root is named by its key; a folder given in its place by who reads it."""
    content = params.load(ROOT / "params.yaml")
    section = content["scales"]["demo"]
    for count, name in enumerate(("imagenet", "coco", "scenes", "mine"), 1):
        (tmp_path / name / "train").mkdir(parents=True)
        for number in range(count):
            (tmp_path / name / f"train/{number}.jpg").touch()
    section["roots"] = {"imagenet": "imagenet", "coco": "coco", "scenes": "scenes", "voc": None, "fsod": None}
    content["benchmarks"]["mine"] = {**content["benchmarks"]["coco_1x"], "root": "./mine"}
    content["run"]["benchmarks"] = ["mini_coco_1", "coco_1x", "mine"]
    monkeypatch.chdir(tmp_path)

    def manifests():
        YAML().dump(content, Path("params.yaml"))
        inventory.main(scale="demo")
        found = {path.stem: read_json(path)["images"] for path in Path("work/demo/inventory").glob("*.json")}
        shutil.rmtree("work")
        return found

    assert manifests() == {"imagenet": 1, "coco": 2, "scenes": 3, "benchmark_mine": 4}
    section["propose"]["unlabelled"]["main"]["root"] = "./mine"
    content["run"]["benchmarks"] = ["mine"]
    assert manifests() == {"imagenet": 1, "unlabelled_main": 4, "benchmark_mine": 4}


def test_a_listing_of_each_selected_set_of_unlabelled_images(tmp_path, monkeypatch):
    """Two of them may be folders of one data set."""
    content = params.load(ROOT / "params.yaml")
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

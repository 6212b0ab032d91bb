"""Boxes from files: what may stand in them, and shards made of them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from proseco.base import files
from proseco.base.errors import InputError
from proseco.data import offline
from proseco.data.images import BrokenImage
from proseco.data.reader import ShardReader
from proseco.experiment import plan
from proseco.proposals import stored
from stages import inventory as inventory_stage
from stages import propose as propose_stage
from tests import params_file
from tests.making import write

ROOT = Path(__file__).resolve().parents[2]
IMAGE = np.zeros((40, 60, 3), np.uint8)
BOXES = [[5, 6, 20, 30], [0, 0, 60, 40], [1.5, 2.25, 3, 4]]


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "boxes"
    (folder / "train").mkdir(parents=True)
    return folder


def propose(root, path="train/a.b.JPEG"):
    return stored.propose(IMAGE, seed=1, path=path, root=str(root))


@pytest.mark.parametrize("kind", ["f2", "f4", ">f8", "i4", "u1"])
def test_boxes_keep_their_order(root, kind):
    np.save(root / "train/a.b.npy", np.array(BOXES).astype(kind))
    boxes = propose(root)
    assert boxes.dtype == np.float32 and boxes.tolist() == np.array(BOXES).astype(kind).astype(float).tolist()


def test_an_image_may_have_none(root):
    np.save(root / "train/a.b.npy", np.zeros((0, 4)))
    assert propose(root).shape == (0, 4)


def test_boxes_that_reach_out_of_the_image_are_clipped(root):
    """As a detector's may, ours among them."""
    np.save(root / "train/a.b.npy", [[-9.5, 0, 75.25, 41], [50, 30, 61, 90], [3, 4, 5, 4], [7, 2, 7, 9]])
    assert propose(root).tolist() == [[0, 0, 60, 40], [50, 30, 60, 40]]  # the others have no area


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (np.zeros((3, 5)), r"train/a\.b\.npy' holds float64 \(3, 5\); it must be an array \(n, 4\) of x0, y0, x1, y1"),
        (np.zeros(4), r"holds float64 \(4,\)"),
        (np.array([["a", "b", "c", "d"]]), r"holds <U1 \(1, 4\)"),
        (np.array([BOXES[0], None], object), r"cannot read '.*a\.b\.npy': Object arrays cannot be loaded"),
        ([BOXES[0], [61, 20, 70, 30]], r"has the box \[61\.0, 20\.0, 70\.0, 30\.0\], outside of its image of 60 x 40"),
        ([[-3, 0, 0, 9]], r"has the box \[-3\.0"),
    ],
)
def test_a_wrong_file_is_named(root, content, words):
    np.save(root / "train/a.b.npy", content, allow_pickle=True)
    with pytest.raises(InputError, match=words):
        propose(root)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"nonsense", b"PK\x03\x04"])
def test_a_damaged_file_is_named(root, content):
    (root / "train/a.b.npy").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read '.*train/a\.b\.npy'"):
        propose(root)


def test_an_archive_of_arrays_is_refused(root):
    np.savez(root / "x.npz", boxes=BOXES)
    (root / "x.npz").rename(root / "train/a.b.npy")
    with pytest.raises(InputError, match=r"cannot read .*magic string"):
        propose(root)


def test_an_image_without_a_file_is_to_be_left_out(root):
    with pytest.raises(BrokenImage, match=r"no boxes are stored for it: no 'train/a\.b\.npy'"):
        propose(root)


def test_shards_of_stored_boxes(root, tmp_path):
    """Files lie as the images do below the root of the data set, of which a subset is used."""
    for name in ("n1/a.jpg", "n1/b.png", "c.jpg"):
        (tmp_path / "images/train" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGE).save(tmp_path / "images/train" / name)
    (root / "train/n1").mkdir()
    np.save(root / "train/n1/a.npy", BOXES)
    np.save(root / "train/c.npy", np.zeros((0, 4)))

    def bound(image, *, seed, path):
        return stored.propose(image, seed=seed, path=path, root=str(root))

    summary = write(tmp_path / "out", tmp_path / "images/train", propose=bound, subset="train")
    assert [sample["file"] for sample in summary["skipped"]] == ["n1/b.png"]
    assert summary["skipped"][0]["reason"] == "no boxes are stored for it: no 'train/n1/b.npy'"
    reader = ShardReader(tmp_path / "out")
    assert {reader[i].key: reader[i].boxes_xyxy.tolist() for i in range(2)} == {"c": [], "n1/a": BOXES}


def test_boxes_whose_corners_are_out_of_order(root, tmp_path):
    """Such as x, y, width, height."""
    (tmp_path / "images").mkdir()
    Image.fromarray(IMAGE).save(tmp_path / "images/a.jpg")
    np.save(root / "a.npy", [[30, 20, 10, 10]])
    propose = stored.propose

    def bound(image, *, seed, path):
        return propose(image, seed=seed, path=path, root=str(root))

    with pytest.raises(InputError, match=r"the proposals of 'a\.jpg' hold a box .* whose corners are not in order"):
        write(tmp_path / "out", tmp_path / "images", propose=bound)


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """A project of three images in a subset, with stored boxes; -> the boxes of stage propose's shards."""
    whole = params_file.parameters()
    section = whole["scales"]["demo"]
    section["roots"] = {"scenes": "scenes", "sam": "boxes", "coco": "scenes", "imagenet": "scenes"}
    own = {"root": "scenes", "subset": "train", "proposals": {"name": "stored", "root": "sam"}}
    section["propose"]["unlabelled"]["sam"] = own
    section["propose"]["filter"] = {**section["propose"]["filter"], "limit": 1}
    section["propose"]["unlabelled"]["sam"]["filter"] = {"limit": 2}
    whole["run"] |= {"benchmarks": ["mini_coco_5"], "unlabelled": ["main", "sam"]}
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Path("scenes/train").mkdir(parents=True, exist_ok=True)
        Path("boxes/train").mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGE).save(Path("scenes/train", name))
        np.save(Path("boxes/train", name).with_suffix(".npy"), BOXES)
    YAML().dump(whole, Path("params.yaml"))

    def run(*stages):
        for module in stages:
            module.main(scale="demo", **({"data": "sam"} if module is propose_stage else {}))
        reader = ShardReader(Path("work/demo/shards/sam"))
        return {reader[i].key: reader[i].boxes_xyxy.tolist() for i in range(len(reader))}

    for name, content in plan.resolve(whole).items():
        if name.startswith("propose/"):
            files.write_json(Path("work/demo/plan", name), content)
    return run


def test_the_stage_finds_the_boxes_of_a_subset(stage):
    """And stores as many as the set's own filter lets through."""
    assert stage(inventory_stage, propose_stage) == dict.fromkeys("abc", BOXES[:2])


def test_boxes_that_are_not_those_of_the_inventory_are_refused(stage, monkeypatch):
    stage(inventory_stage, propose_stage)
    np.save("boxes/train/b.npy", BOXES[::-1])
    again = r"the boxes in 'sam' are not those that stage inventory found; `dvc repro -f inventory@demo` reads"
    with pytest.raises(InputError, match=again):
        stage(propose_stage)
    assert stage(inventory_stage, propose_stage)["b"] == BOXES[:0:-1]
    # Changed while it runs: the shards are kept, but do not take their place.
    write, before = offline.write, Path("work/demo/shards/sam/shard-000000.tar").read_bytes()

    def and_meanwhile(*given, **options):
        np.save("boxes/train/c.npy", BOXES[::-1])
        return write(*given, **options)

    monkeypatch.setattr(offline, "write", and_meanwhile)
    with pytest.raises(InputError, match=again):
        stage(propose_stage)
    assert Path("work/demo/shards/sam/shard-000000.tar").read_bytes() == before


def test_shards_of_other_stored_boxes_are_other_work(stage, monkeypatch):
    """What was finished of the former boxes is not taken up."""
    folders = []
    write = offline.write
    monkeypatch.setattr(offline, "write", lambda *a, work, **k: folders.append(work) or write(*a, work=work, **k))
    for boxes in (BOXES, BOXES[::-1], BOXES):
        np.save("boxes/train/a.npy", boxes)
        stage(inventory_stage, propose_stage)
    assert folders[0] == folders[2] != folders[1]


def test_the_example_of_the_page(tmp_path, monkeypatch):
    """Detections become files of boxes, of every image."""
    for name in ("n1/a.JPEG", "b.c.jpg", "none.png"):
        path = tmp_path / "images/train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGE).save(path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    found = [
        {"file_name": "n1/a.JPEG", "bbox": [1, 2, 3, 4], "score": 0.2},
        {"file_name": "b.c.jpg", "bbox": [0, 0, 60, 40], "score": 0.9},
        {"file_name": "n1/a.JPEG", "bbox": [5, 6, 7, 8], "score": 0.5},
    ]
    Path("detections.json").write_text(json.dumps(found))
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/propose.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, "docs/propose.md", "exec"), {})
    boxes = {
        name: propose(tmp_path / "boxes", f"train/{name}").tolist() for name in ("n1/a.JPEG", "b.c.jpg", "none.png")
    }
    assert boxes == {"n1/a.JPEG": [[5, 6, 12, 14], [1, 2, 4, 6]], "b.c.jpg": [[0, 0, 60, 40]], "none.png": []}

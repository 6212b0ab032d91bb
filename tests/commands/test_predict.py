"""``python -m proseco predict`` against what finetuning scored, and on what is not as it should be."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from safetensors.torch import load_file, save_file

from proseco.base import plugins
from proseco.base.files import read_json
from proseco.data import images as pixels
from proseco.data.annotations import instances
from proseco.runs import finetuning
from proseco.weights import checkpoint
from tests import public_files, tiny
from tests.test_contracts import small

ROOT = Path(__file__).resolve().parents[2]
WEAK = {"short_edges": [40, 48], "long_edge": 96, "first_short_edges": [48], "crop_min": 32, "crop_max": 40}
#: Numbers of the data set's own, and in another order than the class head's.
CATEGORIES = [{"id": 0, "name": "boat", "original_id": 7}, {"id": 1, "name": "buoy", "original_id": 3}]


@pytest.fixture
def run(called):
    return partial(called, "predict")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of every kind that cameras leave, and no two of one size: gray, of 16 bits, turned by EXIF, CMYK."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)

    def noise(*shape):
        return Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8).repeat(8, 0).repeat(8, 1))

    turned = Image.Exif()
    turned[0x0112] = 6
    noise(6, 8, 3).save(root / "a.png")
    noise(9, 5).save(root / "b.png")
    Image.fromarray(rng.integers(0, 2**16, (40, 56), dtype=np.uint16)).save(root / "c.png")
    noise(5, 11, 3).save(root / "d.jpg", exif=turned)
    (root / "deep").mkdir()
    noise(8, 6, 4).convert("CMYK").save(root / "deep" / "e.jpg")
    return root


@pytest.fixture(scope="module")
def truth(folder):
    """Labels of the folder, image ids not from 1; the first image has no object."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    images = []
    for number, name in enumerate(names):
        (width, height), _ = pixels.header(folder / name)
        images.append({"id": 50 - number, "key": name, "file_name": name, "width": width, "height": height})
    images.reverse()
    box = {"bbox": [3, 5, 20, 12], "area": 240, "iscrowd": 0, "difficult": 0}
    objects = [{"id": i, "image_id": record["id"], "category_id": i % 2, **box} for i, record in enumerate(images)]
    return {"images": images, "annotations": objects[1:], "categories": CATEGORIES}


def finetuned(name, truth, root, out):
    """A detector of a kind through the pipeline's own finetuning; the detections that it scored last, and its AP."""
    torch.manual_seed(0)
    entry = small("detectors", name, num_classes=0)
    start = out / "start.safetensors"
    model = tiny.stir(plugins.call("detectors", entry, num_classes=2), noise=0.02)
    checkpoint.save(start, {"student": model.state_dict()}, {"method": None})
    for part in ("results", "scratch"):
        (out / part).mkdir()
    scored, score = [], finetuning.coco_ap.score
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            finetuning.coco_ap,
            "score",
            lambda truth, found, **rest: scored.append(found) or score(truth, found, **rest),
        )
        finetuning.run(
            names={"method": "mine", "benchmark": "harbour", "seed": 3},
            detector=entry,
            views={"weak": WEAK, "predict": {"short_edge": 48, "long_edge": 80}},
            schedule={"batch": 3, "lr": 1e-3, "lr_backbone": 1e-4, "steps": 2, "validations": 1, "log_every": 1},
            annotations=dict.fromkeys(("train", "val", "test"), truth),
            digest="",
            root=root,
            start=start,
            out=out / "best.safetensors",
            results=out / "results",
            scratch=out / "scratch",
            device="cpu",
            precision="float32",
            init_from="student",
            predict_batch=2,
        )
    return scored[-1], read_json(out / "results" / "metrics.json")


def rows(path, ids):
    """As the pipeline has them: image id, box, score, class of the head; ``ids`` image number -> id of the truth."""
    labels = {category["original_id"]: category["id"] for category in CATEGORIES}
    found = read_json(path)
    return np.array([[ids[d["image_id"]], *d["bbox"], d["score"], labels[d["category_id"]]] for d in found])


@pytest.mark.parametrize("name", plugins.names("detectors"))
def test_detections_are_those_that_finetuning_scored(name, run, folder, truth, tmp_path):
    scored, metrics = finetuned(name, truth, folder, tmp_path)
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps(instances(truth, description="")))
    file, out = tmp_path / "best.safetensors", tmp_path / "found.json"
    # COCO's way round: the labels' images and numbers. Batches are the pipeline's, so every bit is.
    code, (*_, said), _ = run(file, folder, "--labels", labels, "--out", out)
    assert code == 0 and said.endswith("in 5 images, seen at a short edge of 48, a long one of at most 80")
    assert len(scored) > 20 and np.array_equal(rows(out, {n: n for n in range(60)}), scored)
    with contextlib.redirect_stdout(io.StringIO()):
        official = COCO(str(labels))
        judge = COCOeval(official, official.loadRes(str(out)), "bbox")
        for step in (judge.evaluate, judge.accumulate, judge.summarize):
            step()
    assert judge.stats[0] * 100 == pytest.approx(metrics["AP"], abs=1e-9)
    # One's own images: by name, numbered from 1, which is the other way round here; a batch pads others.
    code, _, _ = run(file, folder, "--batch", 1, "--out", out)
    names = [record["file_name"] for record in reversed(truth["images"])]
    assert code == 0 and {(d["image_id"], d["file_name"]) for d in read_json(out)} == set(enumerate(names, 1))
    assert {(d["category_id"], d["category"]) for d in read_json(out)} <= {(7, "boat"), (3, "buoy")}
    assert run(file, folder, "--batch", 1, "--labels", labels, "--out", tmp_path / "b.json")[0] == 0
    alone = {number: 51 - number for number in range(1, 6)}
    theirs = rows(tmp_path / "b.json", {n: n for n in range(60)})
    mine = rows(out, alone)
    assert np.array_equal(mine[mine[:, 0].argsort(kind="stable")], theirs)


@pytest.fixture(scope="module")
def ours(folder, truth, tmp_path_factory):
    out = tmp_path_factory.mktemp("ours")
    finetuned("deformable_detr", truth, folder, out)
    return out / "best.safetensors"


def test_images_and_pictures_of_ones_choice(run, ours, folder, tmp_path):
    out, shown = tmp_path / "sub" / "found.json", tmp_path / "shown"
    given = (folder / "b.png", folder / "deep", folder / "b.png")
    options = ("--limit", 4, "--pictures", shown, "--threshold", 0)
    assert run(ours, *given, "--out", out, *options)[0] == 0
    found = read_json(out)
    assert [d["image_id"] for d in found] == [1] * 4 + [2] * 4  # twice named is once looked at
    assert {d["file_name"] for d in found} == {str(folder / "b.png"), str(folder / "deep" / "e.jpg")}
    assert all(a["score"] >= b["score"] for a, b in pairwise(found[:4]))
    assert sorted(path.name for path in shown.iterdir()) == ["1_b.jpg", "2_e.jpg"]
    drawn = pixels.read(shown / "1_b.jpg").astype(int)  # 40 x 72 pixels, seven times as large
    assert drawn.shape == (504, 280, 3) and np.abs(np.diff(drawn, axis=2)).max() > 100  # colours on a gray image
    assert run(ours, *given, "--out", out, "--pictures", tmp_path / "none", "--threshold", 1)[0] == 0
    plain = pixels.read(tmp_path / "none" / "1_b.jpg").astype(int)
    assert np.abs(np.diff(plain, axis=2)).max() < 10


def test_a_picture_of_an_image_with_a_long_name(run, ours, folder, tmp_path):
    name = "漢" * 80
    shutil.copy(folder / "b.png", tmp_path / f"{name}.png")
    given = (tmp_path / f"{name}.png", "--out", tmp_path / "found.json", "--pictures", tmp_path / "shown")
    assert run(ours, *given)[0] == 0
    assert [path.name for path in (tmp_path / "shown").iterdir()] == [f"1_{'漢' * 66}.jpg"]


def test_a_public_detector_is_run_as_its_programs_evaluate(run, folder, truth, tmp_path):
    torch.save(public_files.detreg(tiny.detector()), tmp_path / "detreg.pth")
    public, out = tmp_path / "detreg.pth", tmp_path / "found.json"
    code, (said,), _ = run(public, folder / "a.png", "--out", out, "--limit", 7)
    assert code == 0 and "in 1 images, seen at a short edge of 800, a long one of at most 1333" in said
    assert {(d["category_id"], d["category"]) for d in read_json(out)} <= {(i, f"LABEL_{i}") for i in range(5)}
    labels = tmp_path / "labels.json"
    content = instances(truth, description="") | {"categories": [{"id": 7, "name": "boat"}, {"id": 3, "name": "buoy"}]}
    labels.write_text(json.dumps(content))
    code, (said,), _ = run(public, folder, "--labels", labels, "--out", out, "--short-edge", 40)
    assert code == 0 and said.endswith("in 5 images, seen at a short edge of 40")  # and no limit of the file's
    there = {(d["category_id"], d["category"]) for d in read_json(out)}
    assert (3, "buoy") in there and there <= {(3, "buoy"), *((i, f"LABEL_{i}") for i in (0, 1, 2, 4))}


def changed(file, out, **facts):
    """The file with other facts in its header; those of None are left out."""
    with open(file, "rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    said = json.loads(header["__metadata__"]["proseco"]) | facts
    said = {key: value for key, value in said.items() if value is not None}
    save_file(load_file(file), out, metadata={"proseco": json.dumps(said)})
    return out


def test_a_detector_of_before_is_asked_for_its_size(run, ours, folder, truth, tmp_path):
    old, out = changed(ours, tmp_path / "old.safetensors", predict=None, category_ids=None), tmp_path / "found.json"
    code, _, err = run(old, folder, "--out", out)
    assert (code, err.count("\n")) == (1, 1) and "does not say at which size it was scored; give --short-edge" in err
    assert run(old, folder, "--out", out, "--short-edge", 48, "--long-edge", 80, "--batch", 2)[0] == 0
    assert run(ours, folder, "--out", tmp_path / "new.json")[0] == 0
    number = {category["original_id"]: category["id"] for category in CATEGORIES}
    new = [found | {"category_id": number[found["category_id"]]} for found in read_json(tmp_path / "new.json")]
    assert read_json(out) == new
    labels = tmp_path / "labels.json"  # they say of its names which numbers these have
    labels.write_text(json.dumps(instances(truth, description="")))
    assert run(old, folder, "--out", out, "--short-edge", 48, "--labels", labels)[0] == 0
    assert {(d["category_id"], d["category"]) for d in read_json(out)} == {(7, "boat"), (3, "buoy")}


def test_of_two_classes_of_one_name_each_has_its_number(run, ours, folder, truth, tmp_path):
    twins = [{"id": 0, "name": "boat", "original_id": 7}, {"id": 1, "name": "boat", "original_id": 3}]
    twins.append({"id": 2, "name": "boat", "original_id": 9})
    file, out, labels = tmp_path / "twins.safetensors", tmp_path / "found.json", tmp_path / "labels.json"
    labels.write_text(json.dumps(instances(truth | {"categories": twins}, description="")))
    changed(ours, file, classes=["boat", "boat"])
    assert run(file, folder, "--labels", labels, "--out", out)[0] == 0
    assert {d["category_id"] for d in read_json(out)} == {7, 3}


def test_a_mistake_is_one_line_and_writes_nothing(run, ours, folder, truth, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.jpg").write_bytes((folder / "d.jpg").read_bytes()[:-200])
    data = bytearray((folder / "d.jpg").read_bytes())
    data[data.index(b"\xff\xc4") + 4] = 0x77  # a table of codes that no decoder has a place for
    (tmp_path / "middle.jpg").write_bytes(data)
    student = tiny.detector(num_classes=None).state_dict()
    names = ("detector",), ("student", "teacher"), ("one", "two")
    for which in names:
        states = dict.fromkeys(which, tiny.detector().state_dict() if which == names[2] else student)
        checkpoint.save(tmp_path / f"{which[0]}.safetensors", states, {"detector": {"heads": 4}})
    nonsense = {"detector": {"name": "fcos", "backbone": "none"}}
    gulls = {"annotations": [], "categories": [{"id": 0, "name": "gull", "original_id": 7}]}
    other = instances(truth | gulls, description="")
    (tmp_path / "other.json").write_text(json.dumps(other))
    out, before = tmp_path / "found.json", sorted(tmp_path.iterdir())
    cases = [
        ((ours, tmp_path / "nowhere"), "no image or folder "),
        ((ours, tmp_path / "empty"), "no image in "),
        ((ours, tmp_path / "text.png"), "error: 1 of 1 images cannot be read"),
        ((ours, folder, tmp_path / "cut.jpg", tmp_path / "text.png"), "error: 2 of 7 images cannot be read"),
        ((ours, tmp_path / "middle.jpg"), f"cannot read image '{tmp_path / 'middle.jpg'}': "),
        ((tmp_path / "none.pth", folder), "no checkpoint "),
        ((tmp_path / "student.safetensors", folder), "is of a pretraining and has no class head; stage finetune gives"),
        ((tmp_path / "detector.safetensors", folder), "has no class head; stage finetune gives it one"),
        ((tmp_path / "one.safetensors", folder), "holds the networks one, two; choose one"),
        ((ours, folder, "--out", tmp_path / "empty"), "empty' is a folder; expected the name of a file"),
        ((ours, folder / "a.png", "--out", folder / "a.png"), "a.png' is of detections; give it the name of a .json"),
        ((ours, folder, "--pictures", tmp_path / "empty"), "empty' is there already; name a new folder, or remove it"),
        ((ours, folder, "--limit", 0), "--limit is 0; it must be a whole number above 0"),
        ((ours, folder, "--labels", tmp_path / "other.json"), "has no class 'boat', which the detector was trained on"),
        ((ours, tmp_path / "empty", "--labels", tmp_path / "other.json"), "5 of 5 image files of "),
        ((ours, folder, folder, "--labels", tmp_path / "other.json"), "are of one folder; "),
        ((changed(ours, tmp_path / "x.safetensors", **nonsense), folder), "a detector that cannot be built"),
        ((changed(ours, tmp_path / "y.safetensors", predict={"short_edge": "a"}), folder), "what cannot be"),
        ((changed(ours, tmp_path / "z.safetensors", classes=["boat"]), folder), "what cannot be"),
    ]
    for words, why in cases:
        code, _, err = run(*words, *(() if "--out" in words else ("--out", out)))
        lines = [line for line in err.splitlines() if "error: " in line]
        assert code == 1 and len(lines) == 1 and why in lines[0] and "Traceback" not in err, (words, err)
        if "2 of 7" in why:
            assert f"  {tmp_path / 'cut.jpg'}: truncated\n  {tmp_path / 'text.png'}: cannot be decoded" in err
    made = {tmp_path / f"{letter}.safetensors" for letter in "xyz"}
    assert sorted(set(tmp_path.iterdir()) - made) == before and not list(folder.glob("*.json"))


def test_the_program_itself():
    words = [sys.executable, "-m", "proseco", "predict"]
    done = subprocess.run([*words, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "Find objects in images" in done.stdout and "images [images ...]" in done.stdout
    done = subprocess.run([*words, "best.safetensors", "--out", "x.json"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "required: images" in done.stderr

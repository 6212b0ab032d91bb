"""The id files of the paper's benchmarks, as committed: what they must be, and that the stage writes these bytes."""

from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from proseco.data import id_files
from stages import split
from tests import params_file

ROOT = Path(__file__).resolve().parents[1]
IDS = ROOT / "../shared/data/ids"
PAPER = ROOT / "splits/paper"
SEEDS = [42, 43, 44, 45, 46]
COCO, VOC = (["coco_train2017"], ["coco_val2017"]), (["voc2007_trainval", "voc2012_trainval"], ["voc2007_test"])
# Benchmark: count, lists of the training and of the test images. round() takes 591.4, 1,182.9, 827.6 and 1,655.1.
EXPECTED = {
    "mini_coco_0p5": (591, *COCO),
    "mini_coco_1": (1183, *COCO),
    "mini_coco_5": (5914, *COCO),
    "mini_coco_10": (11829, *COCO),
    "mini_voc_5": (828, *VOC),
    "mini_voc_10": (1655, *VOC),
}


def real(names):
    if not IDS.is_dir():
        pytest.skip(f"no real samples at {IDS}")
    return [key for name in names for key in (IDS / f"{name}.txt").read_text().split()]


def plain(path):
    """The three lines of the README."""
    with open(path) as file:
        return [line.strip() for line in file if not line.startswith("#")]


def natural(keys):
    return sorted(keys, key=int) if all(key.isdigit() for key in keys) else sorted(keys)


def test_all_and_no_others_are_there():
    found = sorted(path.relative_to(PAPER).as_posix() for path in PAPER.rglob("*") if path.is_file())
    assert found == sorted(f"{name}/{seed}/train.txt" for name in EXPECTED for seed in SEEDS)
    assert params_file.parameters()["scales"]["paper"]["split"] == {"validation": "test", "seeds": SEEDS}


@pytest.mark.parametrize("name", EXPECTED)
def test_counts_order_and_header(name):
    drawn = []
    for seed in SEEDS:
        path = PAPER / name / str(seed) / "train.txt"
        keys = id_files.read(path)  # checks the count, the digest and that each comes once
        assert keys == plain(path) == natural(keys)
        facts = id_files.read_facts(path)
        assert len(keys) == EXPECTED[name][0] == int(facts["count"])
        assert (facts["benchmark"], facts["rule"], facts["seed"]) == (name, "uniform", str(seed))
        assert facts["data_set"] == ("coco" if "coco" in name else "voc") and facts["subset"]
        drawn.append(frozenset(keys))
    assert len(set(drawn)) == len(SEEDS)
    overlap = len(drawn[0] & drawn[1]) / len(drawn[0])  # of independent draws: the fraction
    assert overlap == pytest.approx(float(facts["fraction"]), abs=0.03)


@pytest.mark.parametrize("name", EXPECTED)
def test_equal_an_independent_draw_and_hold_no_test_image(name):
    count, train, test = EXPECTED[name]
    everything, held = real(train), set(real(test))
    as_numbers = "coco" in name
    # As DETReg's public code has them: COCO's ids sorted as numbers; VOC's in the order of its lists, 2007 first.
    ids = sorted(int(key) for key in everything) if as_numbers else everything
    for seed in SEEDS:
        keys = plain(PAPER / name / str(seed) / "train.txt")
        expected = np.random.default_rng(seed).choice(ids, size=count, replace=False)
        assert ([int(key) for key in keys] if as_numbers else keys) == sorted(expected.tolist())
        assert not held & set(keys)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_stage_writes_these_bytes(name, tmp_path, monkeypatch):
    """Stubs of all images, without objects, stand for the data sets: the draw depends on the ids alone."""
    _, train, test = EXPECTED[name]

    def stub(names):
        size = {"width": 3, "height": 2}
        images = [{"id": i, "key": key, "file_name": f"x/{key}.jpg", **size} for i, key in enumerate(real(names), 1)]
        return {"images": images, "annotations": [], "categories": [{"id": 0, "name": "x", "original_id": 1}]}

    content = params_file.parameters()
    entry = content["benchmarks"][name]
    subsets = {entry["train"]: stub(train), entry["test"]: stub(test)}
    monkeypatch.setattr(split.plugins, "load", lambda kind, plugin: lambda root, subset, **_: subsets[subset])
    monkeypatch.setattr(split.parts, "check_objects", lambda *_, **__: None)
    (tmp_path / "x").mkdir()
    labelled = plain(PAPER / name / "44" / "train.txt")
    for key in [*labelled, *real(test)]:
        (tmp_path / "x" / f"{key}.jpg").touch()
    content["scales"]["paper"]["roots"][entry["root"]] = str(tmp_path)
    content["run"]["seeds"] = [44]  # the other seeds' files are written all the same
    monkeypatch.chdir(tmp_path)
    YAML().dump(content, tmp_path / "params.yaml")
    split.main(scale="paper", benchmark=name)
    written = {path.relative_to(tmp_path / "splits"): path for path in (tmp_path / "splits").rglob("*.txt")}
    assert set(written) == {Path("paper", name, str(seed), "train.txt") for seed in SEEDS}
    for path, file in written.items():
        assert file.read_bytes() == (ROOT / "splits" / path).read_bytes()
    assert [p.name for p in (tmp_path / "work/paper/annotations" / name).iterdir()] == ["44"]
    made = tmp_path / "work/paper/annotations" / name / "44"
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    for key, parts in ((labelled[0], {"train"}), (real(test)[0], {"train", "val", "test"})):
        (tmp_path / "x" / f"{key}.jpg").write_bytes(b"another image under the same labels")
        split.main(scale="paper", benchmark=name)
        changed = {path.name for path in made.iterdir() if path.read_bytes() != before[path.name]}
        assert changed == {f"{part}.images.txt" for part in parts} and len(before) == 6

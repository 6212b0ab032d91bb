"""What is published of the proposals."""

import json

import pandas
import pytest
from PIL import Image

from proseco.base.errors import InputError
from proseco.tables import report
from tests.tables.trees import write


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "demo"
    (folder / "recall/proposals").mkdir(parents=True)
    about = {"source": "search", "iou": 0.5, "boxes": "all", "recall": 0.25, "objects": 4, "images": 3}
    frame = pandas.DataFrame([{"benchmark": name, **about, "boxes_per_image": 6.5} for name in ("few", "many")])
    frame.to_csv(folder / "recall" / "recall.csv", index=False)
    for name, color in (("main", "blue"), ("other", "red")):
        Image.new("RGB", (60, 40), color).save(folder / "recall/proposals" / f"{name}.png")
    return folder


def test_the_proposals_are_published(results, tmp_path):
    report._proposals(tmp_path / "out", results, {"few": "Few", "many": "Many"}, {"main": "search"})
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"recall.csv", "recall.png", "proposals.png"}
    assert (tmp_path / "out/recall.csv").read_bytes() == (results / "recall/recall.csv").read_bytes()
    colors = {color for _, color in Image.open(tmp_path / "out/proposals.png").convert("RGB").getcolors()}
    assert (0, 0, 255) in colors and (255, 0, 0) not in colors
    report._proposals(tmp_path / "out", results, {"few": "Few"}, {"main": "main: search", "other": "other: random"})
    colors = {color for _, color in Image.open(tmp_path / "out/proposals.png").convert("RGB").getcolors()}
    assert {(0, 0, 255), (255, 0, 0)} <= colors


def test_what_is_missing_is_named_with_the_command_that_makes_it(results, tmp_path):
    with pytest.raises(InputError, match=r"recall\.csv' lacks new; `dvc repro recall@demo` makes it"):
        report._proposals(tmp_path / "out", results, {"few": "Few", "new": "New"}, {})
    (results / "recall/recall.csv").unlink()
    with pytest.raises(InputError, match=r"no result '.*demo/recall/recall\.csv'; `dvc repro recall@demo` makes it"):
        report._proposals(tmp_path / "out", results, {"few": "Few"}, {})


def test_how_long_was_trained_is_said_of_all_cells(tmp_path):
    steps = {("a", 1): 1000, ("a", 2): 900, ("b", 1): 1500, ("b", 2): 1000}
    for (method, seed), count in steps.items():
        for benchmark, counted in (("few", count), ("many", 70)):
            folder = tmp_path / "demo/finetune" / method / benchmark / str(seed)
            folder.mkdir(parents=True)
            scoring = "voc" if benchmark == "many" else "coco"
            found = {"steps": counted, "test_images": 50, "scoring": scoring}
            found |= {"validated_on_test": True} if benchmark == "many" else {"validation_images": 1200}
            (folder / "metrics.json").write_text(json.dumps(found))
    said = report._budget(tmp_path / "demo", {"a": "A", "b": "B"}, {"few": "Few", "many": "Many"}, [1, 2], [], "mine")
    assert said == (
        "Scale: demo (mine). Few finetuned for 900 to 1,500, its checkpoints chosen on 1,200 held-out images and "
        "scored on 50 images; Many finetuned for 70, its checkpoints chosen and scored on the same 50 images by VOC's "
        "rule."
    )


ROWS = {"supervised": "Supervised"}, {"few": "Few", "many": "Many"}, {"sce": "SCE"}, {"many": "Many"}


def test_ablations_stand_below_the_methods_with_gains_over_one_of_them(tmp_path):
    values = {("supervised", name): {1: 5.0, 2: 6.0} for name in ("few", "many")} | {("sce", "many"): {1: 7.0, 2: 9.0}}
    found = report._everything(write(tmp_path / "demo", values), *ROWS, [1, 2])
    assert found[["method", "benchmark", "AP", "AP_gain"]].fillna(0).to_numpy().tolist() == [
        ["supervised", "few", 5.5, 0],
        ["supervised", "many", 5.5, 0],
        ["sce", "many", 8.0, 2.5],
    ]


def test_an_ablation_that_is_missing_is_named_with_the_command_that_makes_it(tmp_path):
    results = write(tmp_path / "demo", {("supervised", name): {1: 5.0} for name in ("few", "many")})
    with pytest.raises(InputError, match="`dvc repro finetune_ablation@demo-sce-many-1` makes it"):
        report._everything(results, *ROWS, [1])


def test_an_ablation_is_not_compared_with_what_had_other_labels(tmp_path):
    results = write(tmp_path / "demo", {("supervised", name): {1: 5.0} for name in ("few", "many")})
    write(results, {("sce", "many"): {1: 9.0}}, labels=8)
    with pytest.raises(InputError, match=r"many, seed 1: not the same .* images: supervised 1200, sce 8"):
        report._everything(results, *ROWS, [1])

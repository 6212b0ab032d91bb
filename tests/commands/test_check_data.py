import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from ruamel.yaml import YAML

from proseco.base import params
from proseco.base.errors import InputError
from proseco.base.files import read_json, write_json
from proseco.commands import check_data
from stages import split


@pytest.fixture
def folder(folder):
    """With counts that fit so few images."""

    def fit(content):
        content["scales"]["demo"]["split"]["validation"] = 1
        for schedule in content["scales"]["demo"]["schedules"].values():
            schedule["batch"] = 1

    change_params(fit)
    return folder


def change_params(change):
    content = params.load()
    change(content)
    YAML().dump(content, Path("params.yaml"))


def edit(path, change):
    content = read_json(path)
    change(content)
    write_json(path, content)


def table(text):
    """Title -> cells of the Markdown."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in rows}


def failing(capsys, **options):
    with pytest.raises(SystemExit) as caught:
        check_data.main(**options)
    assert caught.value.code == 1
    return capsys.readouterr()


def test_a_sound_run(folder, capsys):
    check_data.main()
    out = capsys.readouterr()
    found = table(out.out)
    notes = [line for line in out.out.splitlines() if line.startswith("note: ")]
    assert out.err == "" and len(notes) == 4  # two benchmarks, two seeds: one labelled image does not show all classes
    for note in notes:
        assert re.search(r"mini_(coco_5|voc_10), seed 4[23]: none of the 1 images to train on shows \d of the \d", note)
    assert found[""] == ["coco train2017", "coco val2017", "voc 2007_trainval+2012_trainval", "voc 2007_test"]
    assert found["images"] == ["13", "6", "9", "6"] == found["files looked at"]
    assert found["images without objects"] == ["1", "1", "0", "1"]
    labels = read_json(folder / "data/demo/coco/annotations/instances_train2017.json")["annotations"]
    assert found["objects"][0] == str(len(labels))
    kinds = np.unique([record["category_id"] for record in labels], return_counts=True)[1]
    assert found["classes"][0] == "8" and found["classes without objects"][0] == str(8 - len(kinds))
    assert found["objects a class, most"][0] == str(kinds.max())
    assert {*found["files missing"], *found["files of another size"], *found["boxes dropped"]} == {"0"}
    listed = (folder / "data/demo/voc/VOC2007/ImageSets/Main/test.txt").read_text().split()
    texts = [(folder / f"data/demo/voc/VOC2007/Annotations/{key}.xml").read_text() for key in listed]
    assert found["difficult"][3] == str(sum(text.count("<difficult>1") for text in texts))


def test_what_is_wrong_is_counted_and_named(folder, capsys):
    root = folder / "data/demo/coco"
    images = sorted((root / "train2017").iterdir())
    images[0].unlink()
    images[2].write_bytes(images[2].read_bytes()[:10])
    cv2.imwrite(str(images[3]), np.zeros((20, 30, 3), np.uint8))

    def change(content):
        boxes = [record["bbox"] for record in content["annotations"]]
        boxes[0][0] -= 1000
        boxes[1][2] = 0
        boxes[2][2:] = [900, 900]
        content["annotations"][3]["iscrowd"] = 1

    edit(root / "annotations/instances_train2017.json", change)
    out = failing(capsys, benchmark="mini_coco_5")
    found = table(out.out)
    assert found["boxes clipped"] == ["1", "0"] and found["boxes dropped"] == ["2", "0"]
    assert found["crowds"] == ["1", "0"]
    assert found["files missing"] == ["1", "0"] and found["files of another size"] == ["2", "0"]
    lines = out.err.splitlines()
    assert len(lines) == 5
    assert lines[:2] == [
        "error: coco train2017: 1 of 13 image files are not in 'data/demo/coco'",
        f"  train2017/{images[0].name}",
    ]
    assert lines[2] == (
        "error: coco train2017: 2 of 13 images are not what their records say (drop_other_sizes: true leaves them out)"
    )
    assert "no readable header" in lines[3]
    assert "note: coco train2017: clipped 1 box" in out.out and "note: coco train2017: dropped 2 boxes" in out.out


def test_fewer_files_are_looked_at_on_request(folder, capsys):
    sorted((folder / "data/demo/coco/train2017").iterdir())[1].unlink()
    check_data.main(benchmark="coco_1x", images="2")  # the first and the last
    assert table(capsys.readouterr().out)["files looked at"] == ["2", "2"]
    assert "not in 'data" in failing(capsys, benchmark="coco_1x", images="13").err
    for wrong in ("0", "-1", "some", "1.5"):
        with pytest.raises(InputError, match="whole number above 0, or all"):
            check_data.main(images=wrong)


def test_a_cut_file_is_found_and_a_broken_one_by_decoding(folder, capsys):
    first, second = sorted((folder / "data/demo/coco/train2017").iterdir())[:2]
    first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    data = bytearray(second.read_bytes())
    data[data.index(b"\xff\xc4") + 4] = 0x77  # a table of codes that no decoder has a place for
    second.write_bytes(data)
    out = failing(capsys, benchmark="coco_1x")
    assert table(out.out)["files cut short or broken"] == ["1", "0"]
    what = "error: coco train2017: {} of 13 image files are cut short or broken\n  train2017/" + first.name
    assert what.format(1) + ": truncated\n" in out.err
    out = failing(capsys, benchmark="coco_1x", decode=True)
    assert what.format(2) in out.err and f"  train2017/{second.name}: cannot be decoded\n" in out.err


def test_other_subsets_are_reported_beside_one_that_cannot_be_read(folder, capsys):
    path = folder / "data/demo/coco/annotations/instances_train2017.json"
    path.write_bytes(path.read_bytes()[:-40])
    shutil.rmtree(folder / "data/demo/voc")
    out = failing(capsys)
    assert table(out.out)[""] == ["coco val2017"]
    lines = out.err.splitlines()
    assert len(lines) == 2 and "instances_train2017.json' is not readable JSON" in lines[0]
    assert "scales.demo.roots.voc: no folder" in lines[1]


def test_counts_that_do_not_fit_the_images_are_named_with_their_keys(folder, capsys):
    def unfit(content):
        section = content["scales"]["demo"]
        section["split"]["validation"] = 13
        section["schedules"]["mini_voc_10"] = section["schedules"]["default"] | {"batch": 3}
        section["detectors"]["fcos"]["schedule"]["batch"] = 14

    change_params(unfit)
    lines = failing(capsys).err.splitlines()
    # the validation of VOC is held out of 9 images less one; no batch is looked at where a draw fails
    assert lines == [
        "error: mini_coco_5: validation of 13 images: expected a number from 0 to 12, all that are left "
        "(scales.demo.split.validation)",
        "error: mini_voc_10: validation of 13 images: expected a number from 0 to 8, all that are left "
        "(scales.demo.split.validation)",
    ]
    change_params(lambda content: content["scales"]["demo"]["split"].update(validation=1))
    at_most = "it must be at most 1, the labelled images to train on (params.yaml)"
    lines = failing(capsys).err.splitlines()
    assert lines == [f"error: mini_voc_10: scales.demo.schedules.mini_voc_10.batch is 3; {at_most}"]
    change_params(lambda content: content["run"].update(methods=["supervised", "fcos"], seeds=[7]))
    lines = failing(capsys, benchmark="coco_1x").err.splitlines()  # 13 images less the one held out; it is not in run
    assert lines == [
        f"error: coco_1x: scales.demo.detectors.fcos.schedule.batch is 14; {at_most.replace('1', '12', 1)}"
    ]
    change_params(lambda content: content["benchmarks"]["coco_1x"].update(rule="file", ids="mine_{seed}.txt"))
    assert "error: coco_1x: no id file 'splits/own/mine_7.txt'" in failing(capsys, benchmark="coco_1x").err


def test_folders_and_checkpoints_of_the_run_are_named_all_at_once(folder, capsys):
    def spoil(content):
        section = content["scales"]["demo"]
        section["roots"] |= {"voc": None, "imagenet": "no/imagenet"}
        section["propose"]["unlabelled"]["main"]["root"] = "../own/harbour"
        section["backbones"]["proseco"] = {"checkpoint": "no/scrl.pth"}
        section["backbones"]["swav"] = {"checkpoint": "no/swav.pth"}  # of no row
        section["pretrain"]["detreg_public"] = {"checkpoint": "no/detreg.pth"}
        content["run"]["methods"].append("detreg_public")

    change_params(spoil)
    out = failing(capsys)
    assert table(out.out)[""] == ["coco train2017", "coco val2017"]
    assert out.err.splitlines() == [
        "error: scales.demo.roots.voc is null; set it to the folder of the data set (params.yaml)",
        "error: scales.demo.roots.imagenet: no folder 'no/imagenet' (params.yaml)",
        "error: scales.demo.propose.unlabelled.main.root: no folder '../own/harbour' (params.yaml)",
        "error: scales.demo.pretrain.detreg_public.checkpoint: no file 'no/detreg.pth' (params.yaml)",
        "error: scales.demo.backbones.proseco.checkpoint: no file 'no/scrl.pth' (params.yaml)",
    ]
    check_data.main(benchmark="mini_coco_5")  # of which none of these is
    change_params(lambda content: content["loss"].update(dleta=1))
    assert "error: no key of loss named 'dleta'" in failing(capsys).err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["scales"]["demo"].pop("roots"), "scales.demo lacks roots"),
        (lambda s: s["scales"]["demo"].update(roots=None), "scales.demo.roots is None; it must be dict"),
        (lambda s: s["run"].pop("ablation_benchmarks"), "run lacks ablation_benchmarks"),
        (lambda s: s["run"].update(ablation_benchmarks=None), "run.ablation_benchmarks is None; it must be list"),
    ],
)
@pytest.mark.parametrize("benchmark", [None, "coco_1x"])
def test_parameters_that_are_wrong_are_a_line(folder, capsys, change, words, benchmark):
    settings = params.load()
    change(settings)
    YAML().dump(settings, Path("params.yaml"))
    if "roots" in words:  # nothing can be looked at then
        with pytest.raises((SystemExit, InputError)) as error:
            check_data.main(benchmark=benchmark)
        said = capsys.readouterr().err + str(error.value)
    else:
        said = failing(capsys, benchmark=benchmark).err
    assert words in said


def test_images_to_pretrain_on_may_be_a_tar(folder, capsys):
    (folder / "train.tar").touch()

    def pack(content):
        section = content["scales"]["demo"]
        section["roots"] = {**section["roots"], "scenes": "train.tar", "imagenet": "train.tar"}

    change_params(pack)  # the backbone's images may not
    assert failing(capsys).err == "error: scales.demo.roots.imagenet: no folder 'train.tar' (params.yaml)\n"


def test_a_subset_with_other_classes_is_refused(folder, capsys):
    def rename(content):
        content["categories"][1]["name"] = "zebra"

    old = read_json(folder / "data/demo/coco/annotations/instances_val2017.json")["categories"][1]["name"]
    edit(folder / "data/demo/coco/annotations/instances_val2017.json", rename)
    out = failing(capsys, benchmark="coco_1x")
    assert f"error: coco_1x: training and test labels have different classes, {old}, zebra in only one" in out.err
    with pytest.raises(InputError, match="coco_1x: training and test labels have different classes"):
        split.main(scale="demo", benchmark="coco_1x")


def test_an_entry_that_the_stages_would_refuse(folder):
    content = params.load()
    whole = content["benchmarks"]["coco_1x"]
    for key in set(whole) - {"masks"}:
        content["benchmarks"]["mine"] = {name: value for name, value in whole.items() if name != key}
        YAML().dump(content, Path("params.yaml"))
        with pytest.raises(InputError, match=rf"benchmarks\.mine.*{key}"):
            check_data.main(benchmark="mine")
    content["benchmarks"]["mine"] = "coco"
    YAML().dump(content, Path("params.yaml"))
    with pytest.raises(InputError, match=r"benchmarks\.mine is 'coco'; it must be a mapping"):
        check_data.main(benchmark="mine")
    with pytest.raises(InputError, match="no key of scales named 'dmeo'"):
        check_data.main(benchmark="coco_1x", scale="dmeo")


def test_images_that_the_split_leaves_out_are_no_error(folder, capsys):
    def turn(content):
        content["images"][2].update(width=content["images"][2]["height"] + 1)

    edit(folder / "data/demo/fsod/annotations/fsod_test.json", turn)
    check_data.main(benchmark="fsod_test")
    out = capsys.readouterr()
    assert table(out.out)["files of another size"] == ["1"]
    assert "note: fsod fsod_test: 1 of 7 images are not what their records say" in out.out
    content = params.load()
    del content["benchmarks"]["fsod_test"]["drop_other_sizes"]
    YAML().dump(content, Path("params.yaml"))
    assert "error: fsod fsod_test: 1 of 7 images" in failing(capsys, benchmark="fsod_test").err


def test_images_without_a_single_object_are_no_labels(folder, capsys):
    """Training would end with AP 0 on the one, and with nothing to score or to show on the other."""
    for kind in ("train", "val"):
        shutil.copytree(folder / "data", folder / "kept", dirs_exist_ok=True)
        edit(folder / f"data/demo/coco/annotations/instances_{kind}2017.json", lambda c: c.update(annotations=[]))
        why = f"none of {13 if kind == 'train' else 6} images shows an object"
        assert f"coco {kind}2017: {why}" in failing(capsys, benchmark="mini_coco_5").err
        with pytest.raises(InputError, match=why if kind == "val" else "mini_coco_5 train: none of 1 images"):
            split.main(scale="demo", benchmark="mini_coco_5")
        shutil.rmtree(folder / "data")
        (folder / "kept").rename(folder / "data")


def test_a_subset_is_looked_at_for_each_way_in_which_benchmarks_read_it(folder, capsys):
    def turn(content):
        content["images"][2].update(width=content["images"][2]["height"] + 1)

    edit(folder / "data/demo/fsod/annotations/fsod_test.json", turn)

    def add(content):
        whole = content["benchmarks"]["fsod_test"]
        content["benchmarks"]["strict"] = {key: value for key, value in whole.items() if key != "drop_other_sizes"}
        there = {"name": "coco_json", "title": "Mine", "root": "coco", "test": None, "rule": "all"}
        mine = there | {"train": "annotations/instances_train2017.json"}
        content["benchmarks"] |= {"right": mine | {"images": "train2017"}, "wrong": mine | {"images": "val2017"}}
        content["run"]["benchmarks"] = ["fsod_test", "strict", "right", "wrong"]

    change_params(add)
    out = failing(capsys)
    where = "coco annotations/instances_train2017.json"
    found = table(out.out)
    assert found[""] == ["fsod fsod_test", "fsod fsod_test (strict)", where, f"{where} (wrong)"]
    assert found["files missing"] == ["0", "0", "0", "13"]
    assert "error: fsod fsod_test (strict): 1 of 7 images" in out.err and f"error: {where} (wrong): 13 of" in out.err


def test_a_subset_that_one_benchmark_learns_and_another_is_scored_on(folder, capsys):
    """Difficult objects can be learnt, but not found."""
    for path in (folder / "data/demo/voc/VOC2007/Annotations").iterdir():
        path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))

    def add(content):
        whole = content["benchmarks"]["voc_0712"]
        content["benchmarks"] |= {
            "learnt": whole | {"train": "2007_test", "test": None},
            "scored": whole | {"train": "2007_trainval"},
        }
        content["run"]["benchmarks"] = ["learnt", "scored"]

    change_params(add)
    out = failing(capsys)
    assert table(out.out)[""] == ["voc 2007_test", "voc 2007_trainval"]
    assert "error: voc 2007_test: none of 6 images shows an object, crowds and difficult ones left out" in out.err


def test_images_in_training_and_test_alike(folder, capsys):
    def change(content):
        content["benchmarks"]["coco_1x"]["test"] = "train2017"

    change_params(change)
    wrong = "13 of 13 test images are among those to train or validate on, the first is 'train2017/"
    assert f"error: coco_1x: {wrong}" in failing(capsys, benchmark="coco_1x").err
    with pytest.raises(InputError, match=wrong):
        split.main(scale="demo", benchmark="coco_1x")


def test_masks_are_counted_and_those_that_are_learned(folder, capsys):
    path = folder / "data/demo/coco/annotations/instances_train2017.json"
    images = [record["image_id"] for record in read_json(path)["annotations"]]
    several = next(image for image in images if images.count(image) > 1)

    def change(content):
        for record in content["annotations"]:
            record["segmentation"] = [[1, 1, 9, 1, 9, 9]]
        next(r for r in content["annotations"] if r["image_id"] == several).pop("segmentation")
        crowd = content["annotations"][0] | {"iscrowd": 1, "id": 9999}
        content["annotations"].append(crowd)

    edit(path, change)
    settings = params.load()
    masks = settings["benchmarks"]["coco_1x"].get("masks", False)
    check_data.main(benchmark="coco_1x")
    found = table(capsys.readouterr().out)
    assert masks and found["masks"][0] == str(len(images) - 1)
    assert found["masks to learn"][0] == str(len(images) - images.count(several))


def test_sheets_show_boxes_where_the_labels_have_them(folder, capsys):
    def change(content):
        content["annotations"][0]["iscrowd"] = 1

    edit(folder / "data/demo/coco/annotations/instances_val2017.json", change)
    check_data.main(benchmark="mini_coco_5", pictures=Path("a/shown"))
    assert sorted(path.name for path in Path("a/shown").iterdir()) == ["1_coco_train2017.png", "2_coco_val2017.png"]
    labels = read_json(folder / "data/demo/coco/annotations/instances_val2017.json")
    shown = {record["image_id"] for record in labels["annotations"]}
    sheet = cv2.imread("a/shown/2_coco_val2017.png")
    assert len(shown) == 5 and sheet.shape == (340, 1700, 3)  # one row, a column each

    # One box is moved: the sheet differs in that image's square alone.
    def move(content):
        x, y, w, h = content["annotations"][0]["bbox"]
        content["annotations"][0]["bbox"] = [x, y, max(1, w - 8), max(1, h - 8)]

    edit(folder / "data/demo/coco/annotations/instances_val2017.json", move)
    check_data.main(benchmark="mini_coco_5", pictures=Path("moved"))
    differ = (cv2.imread("moved/2_coco_val2017.png") != sheet).any((0, 2)).nonzero()[0]
    place = sorted(shown).index(labels["annotations"][0]["image_id"])
    assert len(differ) and 340 * place <= differ.min() and differ.max() < 340 * (place + 1)


def test_sheets_leave_out_what_cannot_be_read(folder, capsys):
    first = min(
        record["image_id"] for record in read_json("data/demo/coco/annotations/instances_val2017.json")["annotations"]
    )
    names = {
        image["id"]: image["file_name"]
        for image in read_json("data/demo/coco/annotations/instances_val2017.json")["images"]
    }
    (folder / "data/demo/coco/val2017" / names[first]).unlink()
    out = failing(capsys, benchmark="mini_coco_5", pictures=Path("shown"))
    assert f"val2017/{names[first]}" in out.err
    assert cv2.imread("shown/2_coco_val2017.png").shape == (340, 4 * 340, 3)
    with pytest.raises(InputError, match="--pictures 'shown' is there already; name a new folder"):
        check_data.main(pictures=Path("shown"))
    out = failing(capsys, pictures=Path("params.yaml/shown"))
    assert re.search(r"error: cannot write 'params\.yaml/shown/2_coco_val2017\.png'.*; name another folder", out.err)


def test_a_sheet_marks_what_is_treated_in_another_way():
    assert check_data._kind({"iscrowd": 1, "difficult": 0}) == " (crowd)"
    assert check_data._kind({"iscrowd": 0, "difficult": 1}) == " (difficult)"
    assert check_data._kind({"iscrowd": 0, "difficult": 0}) == ""

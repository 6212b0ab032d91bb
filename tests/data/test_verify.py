import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proseco.benchmarks import coco, voc
from proseco.data import images, verify
from proseco.data.images import BrokenImage
from tests.data.test_annotations import labels

DATA = Path(__file__).resolve().parents[2] / "../shared/data"


def write(path, width, height, orientation=None, kind="JPEG"):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path, kind, exif=exif)


@pytest.mark.parametrize("orientation", [None, 1, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_size_is_that_of_the_image_as_training_reads_it(tmp_path, orientation, kind):
    write(tmp_path / "x", 30, 20, orientation, kind)
    height, width = images.read(tmp_path / "x").shape[:2]
    assert images.size(tmp_path / "x") == (width, height)
    assert ((width, height) == (20, 30)) == ((orientation or 1) > 4)


def test_only_the_header_is_read(tmp_path):
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)).save(data, "JPEG")
    (tmp_path / "x").write_bytes(data.getvalue()[:1000])
    assert images.size(tmp_path / "x") == (200, 300)
    (tmp_path / "x").write_bytes(b"GIF89")
    with pytest.raises(BrokenImage, match="no readable header"):
        images.size(tmp_path / "x")
    with pytest.raises(FileNotFoundError):
        images.size(tmp_path / "y")


def test_countof_another_size_are_left_out_with_their_objects(tmp_path):
    given = labels()
    for image in given["images"]:
        write(tmp_path / image["file_name"], image["width"], image["height"])
    assert verify.other_sizes(given, tmp_path) == {}
    assert verify.drop_other_sizes(given, tmp_path, source="mine") == (given, [])
    write(tmp_path / "y/a7.jpg", 90, 80)  # 80 x 90 in its record
    (tmp_path / "x/a5.jpg").unlink()  # for check_images to name
    found = verify.other_sizes(given, tmp_path)
    assert found == {"a7": "y/a7.jpg: the file is 90 x 80 pixels, its annotation says 80 x 90"}
    kept, notes = verify.drop_other_sizes(given, tmp_path, source="mine")
    assert [image["key"] for image in kept["images"]] == ["a2", "a5"]
    assert [record["id"] for record in kept["annotations"]] == [3]
    assert notes == [f"mine: left out 1 of 3 images, first {found['a7']}"]


def test_a_data_set_without_anything(tmp_path):
    nothing = {"images": [], "annotations": [], "categories": []}
    facts, notes, errors = verify.describe(nothing, tmp_path, source="mine")
    assert {*facts.values()} == {0} and notes == []
    assert errors == ["mine: there is no image; expected one or more"]


@pytest.mark.parametrize(
    ("load", "folder", "subset", "count"),
    [(coco.load, "coco", "val2017", 100), (voc.load, "voc/VOCdevkit", "2007_test", 150)],
)
def test_real_samples_are_sound(load, folder, subset, count):
    root = DATA / folder
    if not root.is_dir():
        pytest.skip(f"no real samples at {DATA}")
    facts, notes, errors = verify.describe(load(root, subset), root, source=subset)
    assert (facts["images"], facts["files looked at"], notes, errors) == (count, count, [], [])
    assert facts["files of another size"] == facts["files missing"] == facts["boxes clipped"] == 0
    wrong = load(root, subset)
    wrong["images"][7]["width"] += 1
    assert list(verify.other_sizes(wrong, root)) == [wrong["images"][7]["key"]]

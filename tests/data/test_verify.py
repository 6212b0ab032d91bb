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
    assert images.header(tmp_path / "x")[0] == (width, height)
    assert ((width, height) == (20, 30)) == ((orientation or 1) > 4)


@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("sides", [(30, 20), (20, 20)])
def test_images_that_exif_turns_in_their_frame_are_noted(tmp_path, orientation, sides):
    """Their size does not tell whether boxes are of the stored image or of the upright one."""
    annotations = {**labels(), "annotations": []}
    for record in annotations["images"]:
        write(tmp_path / record["file_name"], 40, 30)
        record |= {"width": 40, "height": 30}
    first = annotations["images"][0]
    write(tmp_path / first["file_name"], *sides, orientation)
    first["height"], first["width"] = images.read(tmp_path / first["file_name"]).shape[:2]
    report = verify.describe(annotations, tmp_path, source="x")
    unclear = orientation in (2, 3, 4) or (orientation in (5, 8) and sides == (20, 20))
    said = "x: EXIF turns or mirrors 1 of 3 images, first x/a2.jpg; boxes are taken to be of the upright image"
    assert report.notes == ([said] if unclear else []) and not report.errors


def test_only_the_header_is_read(tmp_path):
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)).save(data, "JPEG")
    (tmp_path / "x").write_bytes(data.getvalue()[:1000])
    assert images.header(tmp_path / "x")[0] == (200, 300)
    (tmp_path / "x").write_bytes(b"GIF89")
    with pytest.raises(BrokenImage, match="no readable header"):
        images.header(tmp_path / "x")
    with pytest.raises(FileNotFoundError):
        images.header(tmp_path / "y")


def noise(kind):
    data = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8)).save(data, kind)
    return data.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_a_file_that_is_cut_is_told_from_one_with_more_behind(tmp_path, monkeypatch, kind):
    data = noise(kind)
    for more in (b"", bytes(9), b"\n", np.random.default_rng(1).bytes(3000)):
        (tmp_path / "x").write_bytes(data + more)
        images.check_complete(tmp_path / "x")
        images.check_complete(tmp_path / "x", inspected=True)
    for left in (0, 1, len(data) // 2, len(data) - 20):
        (tmp_path / "x").write_bytes(data[:left])
        with pytest.raises(BrokenImage):
            images.check_complete(tmp_path / "x")
    with pytest.raises(BrokenImage, match="cannot be read: No such file"):
        images.check_complete(tmp_path / "y")
    monkeypatch.setattr(images, "inspect", lambda data: pytest.fail("decoded"))
    (tmp_path / "x").write_bytes(data)
    if kind in ("JPEG", "PNG"):
        images.check_complete(tmp_path / "x")


def test_a_download_that_reserved_its_room(tmp_path):
    data = noise("JPEG")
    (tmp_path / "x").write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    images.inspect((tmp_path / "x").read_bytes())  # which takes zeros for grey
    with pytest.raises(BrokenImage, match="it ends in zeros"):
        images.check_complete(tmp_path / "x")


def test_what_is_wrong_in_the_middle_is_found_by_decoding(tmp_path):
    data = bytearray(noise("PNG"))
    data[len(data) // 2] ^= 255
    (tmp_path / "x").write_bytes(data)
    images.check_complete(tmp_path / "x")
    with pytest.raises(BrokenImage, match="cannot be decoded"):
        images.check_complete(tmp_path / "x", inspected=True)


def test_the_first_files_are_named_and_the_others_counted(tmp_path):
    records = [{"id": i, "key": str(i), "file_name": f"{i:02}.jpg", "width": 40, "height": 60} for i in range(1, 37)]
    given = {"images": records, "annotations": [], "categories": []}
    data = noise("JPEG")
    for record in records[:24]:
        (tmp_path / record["file_name"]).write_bytes(data if record["id"] > 13 else data[:-400])
    for record in records[13:23]:
        record["width"] = 41
    report = verify.describe(given, tmp_path, source="mine")
    names = ("files missing", "files of another size", "files cut short or broken")
    assert [report.facts[name] for name in names] == [12, 10, 13]
    missing, other, cut = (error.splitlines() for error in report.errors)
    assert missing[0] == f"mine: 12 of 36 image files are not in '{tmp_path.as_posix()}'"
    assert missing[1:] == [*(f"  {number}.jpg" for number in range(25, 35)), "  and 2 more"]
    assert other[0].startswith("mine: 10 of 36 images are not what their records say (drop_") and len(other) == 11
    assert other[1] == "  14.jpg: the file is 40 x 60 pixels, its annotation says 41 x 60"
    assert cut[0] == "mine: 13 of 36 image files are cut short or broken" and cut[-1] == "  and 3 more"
    assert cut[1] == "  01.jpg: truncated" and len(cut) == 12


def test_images_of_another_size_are_left_out_with_their_objects(tmp_path):
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
    assert verify.clean(given, tmp_path, source="mine", drop=True) == (kept, notes)
    assert verify.clean(given, tmp_path, source="mine", drop=False) == (given, [])


def test_a_data_set_without_anything(tmp_path):
    nothing = {"images": [], "annotations": [], "categories": []}
    report = verify.describe(nothing, tmp_path, source="mine")
    assert {*report.facts.values()} == {0} and report.notes == []
    assert report.errors == ["mine: there is no image; expected one or more"]


@pytest.mark.parametrize(
    ("load", "folder", "subset", "count"),
    [(coco.load, "coco", "val2017", 100), (voc.load, "voc/VOCdevkit", "2007_test", 150)],
)
def test_real_samples_are_sound(monkeypatch, load, folder, subset, count):
    root = DATA / folder
    if not root.is_dir():
        pytest.skip(f"no real samples at {DATA}")
    report = verify.describe(load(root, subset), root, source=subset)
    facts = report.facts
    assert (facts["images"], facts["files looked at"], report.notes, report.errors) == (count, count, [], [])
    assert facts["files of another size"] == facts["files missing"] == facts["boxes clipped"] == 0
    monkeypatch.setattr(images, "inspect", lambda data: pytest.fail("decoded"))
    for image in (path for path in DATA.rglob("*") if path.suffix.lower() in images.SUFFIXES):
        images.check_complete(image)  # their last bytes are enough
    wrong = load(root, subset)
    wrong["images"][7]["width"] += 1
    assert list(verify.other_sizes(wrong, root)) == [wrong["images"][7]["key"]]

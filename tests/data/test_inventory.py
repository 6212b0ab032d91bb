import json
import os
import shutil
import sys

import pytest

from proseco.base.errors import InputError
from proseco.data import inventory, listing
from tests.data.test_archive import IMAGES, link, tar_of, tar_of_tars

FILES = {
    "train/n1/a.JPEG": b"x" * 10,
    "train/n2/b.JPEG": b"y" * 20,
    "annotations/labels.json": b'{"a": 1}',
    "VOC/a.xml": b"<a/>",
    "VOC/list.txt": b"000001\n",
    "README.md": b"about",
}


def write(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def manifest(root):
    return inventory.survey(root)[0]


def test_counts(tmp_path):
    found = manifest(write(tmp_path, FILES))
    assert {key: found[key] for key in ("images", "bytes", "annotation_files")} == {
        "images": 2,
        "bytes": 30,
        "annotation_files": 3,
    }
    assert json.dumps(found) and set(found) == {"images", "bytes", "annotation_files", "digest", "passed_over"}


def test_neither_the_order_of_creation_nor_the_place_nor_the_time_matters(tmp_path):
    first = manifest(write(tmp_path / "a", FILES))
    assert manifest(write(tmp_path / "b", dict(reversed(FILES.items())))) == first
    shutil.move(tmp_path / "a", tmp_path / "c")
    os.utime(tmp_path / "c/train/n1/a.JPEG", (0, 0))
    assert manifest(tmp_path / "c") == first


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"train/n1/a.JPEG": b"x" * 11}, False),  # a size
        ({"train/n1/a.JPEG": b"z" * 10}, True),  # pixels alone: a million files are not read
        ({"train/n1/c.JPEG": b""}, False),  # one more
        ({"annotations/labels.json": b'{"a": 2}'}, False),  # the content of labels, at one size
        ({"VOC/a.xml": b"<b/>"}, False),
        ({"VOC/list.txt": b"000002\n"}, False),
        ({"README.md": b"something else"}, True),
        ({"train/.part.JPEG": b"half"}, True),
    ],
)
def test_the_digest_follows_sizes_of_images_and_contents_of_labels(tmp_path, change, same):
    before = manifest(write(tmp_path / "a", FILES))["digest"]
    assert (manifest(write(tmp_path / "b", FILES | change))["digest"] == before) is same


def test_a_renamed_image_changes_the_digest(tmp_path):
    root = write(tmp_path, FILES)
    before = manifest(root)
    (root / "train/n1/a.JPEG").rename(root / "train/n2/a.JPEG")
    after = manifest(root)
    assert after["digest"] != before["digest"] and after["bytes"] == before["bytes"]


def test_a_folder_without_images(tmp_path):
    write(tmp_path, {"labels.json": b"{}"})
    with pytest.raises(InputError, match=r"no image \(\.jpg, .*\) in "):
        manifest(tmp_path)
    with pytest.raises(InputError, match="no image"):
        manifest(tmp_path / "absent")


def test_the_images_of_a_subset(tmp_path):
    root = write(tmp_path, FILES | {"val/c.jpg": b"z", "d.png": b"zz"})
    _, pictures = inventory.survey(root)
    listed = {
        name: [(f.path, f.size) for f in inventory.subset(root, pictures, name)] for name in ("train", "val", ".")
    }
    assert listed["train"] == [("n1/a.JPEG", 10), ("n2/b.JPEG", 20)] and listed["val"] == [("c.jpg", 1)]
    assert listed["."] == [("d.png", 2), ("train/n1/a.JPEG", 10), ("train/n2/b.JPEG", 20), ("val/c.jpg", 1)]
    with pytest.raises(InputError, match=r"<data>\.subset is 'test'; '.*' has images in train, val$"):
        inventory.subset(root, pictures, "test")


def test_a_tar_is_a_data_set(tmp_path):
    tar = tmp_path / "train.tar"
    tar.write_bytes(tar_of_tars())
    found, pictures = inventory.survey(tar)
    assert (found["images"], found["annotation_files"], found["passed_over"]) == (4, 0, [])
    assert found["bytes"] == sum(map(len, IMAGES.values()))
    assert inventory.subset(tar, pictures, "train") == pictures and len(pictures) == 4
    with pytest.raises(InputError, match=r"<data>\.subset is 'val'; of a tar of class tars it is 'train'"):
        inventory.subset(tar, pictures, "val")
    tar.write_bytes(tar_of([("n1.tar", tar_of([("a.jpg", b"x"), link("b.jpg")]))]))
    text = inventory.describe("imagenet", inventory.survey(tar)[0])
    assert text.splitlines() == ["imagenet: 1 images, 0.0 MiB", "  passed over 'n1/b.jpg': a link"]
    tar.write_bytes(tar_of([("n1.tar", tar_of([("a.jpg", b"x"), ("\udcff\n.jpg", b"y")]))]))
    text = inventory.describe("imagenet", inventory.survey(tar)[0])
    assert text.splitlines()[1:] == [r"  passed over 'n1/\udcff\n.jpg': its name is not printable text"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file system whose names are bytes")
def test_a_name_that_is_no_text(tmp_path):
    root = write(tmp_path, FILES)
    before = manifest(root)["digest"]
    (root / os.fsdecode(b"train/n1/\xff.jpg")).write_bytes(b"x")
    found, pictures = inventory.survey(root)
    assert found["images"] == 3 and found["digest"] != before
    with pytest.raises(InputError, match="not UTF-8; rename it"):
        listing.save(tmp_path / "x.tsv", pictures)


def test_a_link_to_nothing_is_named(tmp_path):
    root = write(tmp_path, FILES)
    (root / "train/n1/gone.JPEG").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"cannot list '.*gone\.JPEG': No such file"):
        manifest(root)

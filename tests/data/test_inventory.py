import json
import os
import shutil

import pytest

from proseco.base.errors import InputError
from proseco.data import inventory

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


def test_counts(tmp_path):
    found = inventory.manifest(write(tmp_path, FILES))
    assert {key: found[key] for key in ("images", "bytes", "annotation_files")} == {
        "images": 2,
        "bytes": 30,
        "annotation_files": 3,
    }
    assert json.dumps(found) and set(found) == {"images", "bytes", "annotation_files", "digest"}


def test_neither_the_order_of_creation_nor_the_place_nor_the_time_matters(tmp_path):
    first = inventory.manifest(write(tmp_path / "a", FILES))
    assert inventory.manifest(write(tmp_path / "b", dict(reversed(FILES.items())))) == first
    shutil.move(tmp_path / "a", tmp_path / "c")
    os.utime(tmp_path / "c/train/n1/a.JPEG", (0, 0))
    assert inventory.manifest(tmp_path / "c") == first


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
    before = inventory.manifest(write(tmp_path / "a", FILES))["digest"]
    assert (inventory.manifest(write(tmp_path / "b", FILES | change))["digest"] == before) is same


def test_a_renamed_image_changes_the_digest(tmp_path):
    root = write(tmp_path, FILES)
    before = inventory.manifest(root)
    (root / "train/n1/a.JPEG").rename(root / "train/n2/a.JPEG")
    after = inventory.manifest(root)
    assert after["digest"] != before["digest"] and after["bytes"] == before["bytes"]


def test_a_folder_without_images(tmp_path):
    write(tmp_path, {"labels.json": b"{}"})
    with pytest.raises(InputError, match=r"no image \(\.jpg, .*\) in "):
        inventory.manifest(tmp_path)
    with pytest.raises(InputError, match="no image"):
        inventory.manifest(tmp_path / "absent")

"""What is written of one part of a split, and what is refused."""

import pytest

from proseco.base.errors import InputError
from proseco.base.files import read_json, write_text
from proseco.data import annotations, parts
from tests.data.test_annotations import labels


@pytest.fixture
def given(tmp_path):
    """Labels with masks whose image files are there, and their sizes."""
    content = labels()
    for record in content["annotations"]:
        record["segmentation"] = [[0, 0, 1, 0, 1, 1]]
    for number, image in enumerate(content["images"]):
        write_text(tmp_path / "root" / image["file_name"], "x" * number)
    return content, annotations.FileSizes(tmp_path / "root")


@pytest.mark.parametrize(("part", "masks"), [("train", True), ("val", False), ("test", False)])
def test_the_files(tmp_path, given, part, masks):
    content, sizes = given
    parts.write(tmp_path / "out", part, content, sizes, source="mine")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{part}.json", f"{part}.images.txt"}
    written = read_json(tmp_path / "out" / f"{part}.json")
    assert written["images"] == content["images"]
    assert all(("segmentation" in record) is masks for record in written["annotations"])
    assert (tmp_path / "out" / f"{part}.images.txt").read_text() == annotations.image_files(content, sizes)


def test_what_a_training_would_stumble_on_is_refused(tmp_path, given):
    content, sizes = given
    bare = content | {"annotations": []}
    parts.write(tmp_path / "out", "val", bare, sizes, source="mine")  # which may be few images
    for part in ("train", "test"):
        with pytest.raises(InputError, match=f"mine {part}: none of 3 images shows an object"):
            parts.write(tmp_path / "out", part, bare, sizes, source="mine")
    (sizes.root / content["images"][0]["file_name"]).unlink()
    with pytest.raises(InputError, match="1 of 3 image files of mine val are missing"):
        parts.write(tmp_path / "out", "val", content, sizes, source="mine")

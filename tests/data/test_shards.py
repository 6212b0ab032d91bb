import io
import json
import os
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from proseco.base.errors import InputError
from proseco.base.randomness import seed as derive_seed
from proseco.data import images, shards
from proseco.data.listing import File
from proseco.data.reader import ShardReader
from tests.making import PROPOSE, listed, tree, write

SAMPLES = Path(__file__).resolve().parents[2] / "../shared/data/imagenet/train"


def save(path, height, width, mode="RGB", kind="JPEG", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, kind, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve files; four cannot be used."""
    root = tmp_path_factory.mktemp("images")
    turned = Image.Exif()
    turned[0x0112] = 6
    save(root / "n01/a.v2.JPEG", 40, 56)
    save(root / "n01/b.jpg", 33, 20, mode="L")
    save(root / "n01/b.png", 21, 44, kind="PNG")
    save(root / "n01.x/c.jpg", 50, 30)
    save(root / "n02/cmyk.jpg", 30, 40, mode="CMYK")
    save(root / "n02/turned.jpg", 30, 40, exif=turned)
    save(root / "n02/disguised.JPEG", 25, 36, kind="PNG")
    save(root / "top.webp", 28, 36, kind="WEBP")
    save(root / "n02/small.jpg", 40, 15)
    (root / "n03").mkdir()
    (root / "n03/empty.jpg").write_bytes(b"")
    (root / "n03/half.jpg").write_bytes((root / "n01/a.v2.JPEG").read_bytes()[:900])
    (root / "n03/text.png").write_text("no picture\n")
    return root


SKIPPED = [
    {"file": "n02/small.jpg", "reason": "smaller than 16 pixels"},
    {"file": "n03/empty.jpg", "reason": "cannot be decoded"},
    {"file": "n03/half.jpg", "reason": "truncated"},
    {"file": "n03/text.png", "reason": "cannot be decoded"},
]
# In the order of their paths.
KEPT = {
    "n01_x/c": ("n01.x/c.jpg", "jpg"),
    "n01/a_v2": ("n01/a.v2.JPEG", "jpg"),
    "n01/b": ("n01/b.jpg", "jpg"),
    "n01/b_png": ("n01/b.png", "png"),
    "n02/cmyk": ("n02/cmyk.jpg", "jpg"),
    "n02/disguised": ("n02/disguised.JPEG", "png"),
    "n02/turned": ("n02/turned.jpg", "jpg"),
    "top": ("top.webp", "webp"),
}


@pytest.fixture(scope="module")
def out(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards") / "out"
    return out, write(out, folder)


def test_equal_bytes_however_often_and_by_however_many(folder, out, tmp_path):
    first = tree(out[0])
    assert sorted(first) == [f"shard-{i:06d}.{e}" for i in range(3) for e in ("json", "tar")] + ["summary.json"]
    write(tmp_path / "again", folder)
    assert tree(tmp_path / "again") == first
    write(tmp_path / "two", folder, workers=2)
    assert tree(tmp_path / "two") == first
    write(tmp_path / "other", folder, seed=4)
    assert tree(tmp_path / "other") != first


def test_the_summary_counts_and_names_what_was_left_out(out):
    folder, summary = out
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert summary["skipped"] == SKIPPED
    counts = {"samples": 8, "shards": 3, "boxes": 48, "boxes_min": 6, "boxes_max": 6, "boxes_mean": 6.0}
    counts["without_boxes"] = 0
    assert {name: summary[name] for name in counts} == counts
    assert (summary["grayscale"], summary["cmyk"], summary["rotated"]) == (1, 1, 1)
    text = shards.describe(summary)
    assert text.startswith("8 images, 48 boxes (") and "n03/half.jpg: truncated" in text


def test_webdataset_reads_them(folder, out):
    seen = {}
    for tar in sorted(out[0].glob("*.tar")):
        for sample in webdataset.WebDataset(str(tar), shardshuffle=False):
            seen[sample["__key__"]] = sample
    assert list(seen) == list(KEPT)
    reader = ShardReader(out[0])
    assert [reader[i].key for i in range(len(reader))] == list(KEPT)
    for number, (key, (path, extension)) in enumerate(KEPT.items()):
        sample, ours = seen[key], reader[number]
        assert sample[extension] == (folder / path).read_bytes()  # verbatim
        boxes = np.load(io.BytesIO(sample["boxes.npy"]))
        assert boxes.dtype == np.float32 and (boxes == ours.boxes_xyxy).all()
        image, _ = images.inspect((folder / path).read_bytes())
        assert (boxes == PROPOSE(image, seed=derive_seed(3, "proposals", key))).all()
        assert ours.image.shape == image.shape and np.abs(ours.image.astype(int) - image).max() <= 3
        about = json.loads(sample["json"])
        height, width = image.shape[:2]
        label = {"label": path.split("/")[0]} if "/" in path else {}
        assert about == {"key": key, "width": width, "height": height, "boxes": 6, **label}
        assert ours.labels.shape == (0,)
    assert reader[6].image.shape == (40, 30, 3)  # turned upright


def test_the_index_finds_every_member(out):
    for path in out[0].glob("*.tar"):
        data, index = path.read_bytes(), json.loads(path.with_suffix(".json").read_text())
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}
        found = {}
        for sample in index["samples"]:
            for name in ("image", "boxes.npy", "json"):
                offset, size, crc = sample[name]
                part = data[offset : offset + size]
                assert zlib.crc32(part) == crc
                found[sample["key"], name] = part
            about = json.loads(found[sample["key"], "json"])
            assert sample["size"] == [about["width"], about["height"]]
        assert index["bytes"] == len(data) and sorted(found.values()) == sorted(members.values())


def test_headers_carry_neither_time_nor_owner(out):
    for path in out[0].glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
                assert member.mode == 0o644


def test_keys():
    assert shards.assign_keys(["a/b.c.jpg", "a.b/c.JPEG", "x.jpg", "x.png", "y_.jpg"]) == [
        "a/b_c",
        "a_b/c",
        "x",
        "x_png",
        "y_",
    ]
    with pytest.raises(InputError, match=r"two images would have the key 'a_b_jpg'; rename 'a_b\.jpg'"):
        shards.assign_keys(["a.b.png", "a.b_jpg.png", "a_b.jpg"])


@pytest.mark.parametrize("max_skipped", [0.33, 0.0])
def test_too_many_left_out(folder, tmp_path, max_skipped):
    with pytest.raises(InputError, match=r"\d of 12 images cannot be used, .*; propose\.max_skipped is .*small\.jpg"):
        write(tmp_path / "out", folder, max_skipped=max_skipped)
    assert not (tmp_path / "out").exists()
    write(tmp_path / "enough", folder, max_skipped=0.34)


def test_nothing_left(folder, tmp_path):
    with pytest.raises(InputError, match=r"none of the 12 images can be used: n01\.x/c\.jpg \(smaller than 99.* and 9"):
        write(tmp_path / "out", folder, min_side=99, max_skipped=1.0)


def test_a_shard_of_which_nothing_is_left(folder, tmp_path):
    summary = write(tmp_path / "out", folder, samples_per_shard=1)
    assert summary["shards"] == 12 and summary["boxes_min"] == 6
    reader = ShardReader(tmp_path / "out")
    assert [reader[i].key for i in range(len(reader))] == list(KEPT)


def test_too_little_memory_for_an_image_ends_the_stage_in_a_line(folder, tmp_path, monkeypatch):
    """Left out, the shards would depend on the machine."""

    def full(data):
        raise MemoryError

    monkeypatch.setattr(shards.images, "inspect", full)
    with pytest.raises(InputError, match=r"too little memory to decode '.*'; take it out, or use fewer workers$"):
        write(tmp_path / "out", folder)


def test_min_side_counts_the_shorter_side(folder, tmp_path):
    assert len(write(tmp_path / "a", folder, min_side=15)["skipped"]) == 3
    skipped = write(tmp_path / "b", folder, min_side=21)["skipped"]
    assert [entry["file"] for entry in skipped if "21" in entry["reason"]] == ["n01/b.jpg", "n02/small.jpg"]


def test_imagenet(tmp_path):
    if not SAMPLES.is_dir():
        pytest.skip(f"no ImageNet samples in {os.path.relpath(SAMPLES)}")
    listing = listed(SAMPLES)[::16]
    paths = [file.path for file in listing]
    summary = write(tmp_path / "out", SAMPLES, listing, samples_per_shard=10, max_skipped=0.0)
    assert summary["samples"] == len(paths)
    reader = ShardReader(tmp_path / "out")
    for number, path in enumerate(paths):
        boxes, (height, width) = reader[number].boxes_xyxy, reader[number].image.shape[:2]
        assert reader[number].key == path.removesuffix(".JPEG")
        assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()


def partition(sizes, samples, limit):
    found = [File(f"{i}.jpg", size) for i, size in enumerate(sizes)]
    parts = shards.partition(found, samples_per_shard=samples, shard_bytes=limit)
    assert list(parts) == [f"shard-{i:06d}" for i in range(len(parts))]
    assert [item for part in parts.values() for item in part] == [(str(i), file) for i, file in enumerate(found)]
    return [[file.size for _, file in part] for part in parts.values()]


def test_shards_are_cut_by_samples_and_by_bytes():
    sizes = [3, 4, 5, 20, 1, 1, 1, 9]
    assert partition(sizes, 3, None) == [[3, 4, 5], [20, 1, 1], [1, 9]]
    assert partition(sizes, 3, 12) == [[3, 4, 5], [20], [1, 1, 1], [9]]  # one image may be larger than the limit
    assert partition(sizes, 100, 11) == [[3, 4], [5], [20], [1, 1, 1], [9]]


def test_filters_apply_to_every_plugin(folder, tmp_path):
    def keep(boxes, width, height):
        return boxes[:0] if width < height else boxes[1:3]

    summary = write(tmp_path / "out", folder, keep=keep)
    reader = ShardReader(tmp_path / "out")
    for number in range(len(reader)):
        height, width = reader[number].image.shape[:2]
        assert len(reader[number].boxes_xyxy) == (0 if width < height else 2)
    assert summary["without_boxes"] == 3 and summary["boxes"] == 10 and summary["boxes_min"] == 0


@pytest.mark.parametrize("box", [[0, 0, np.nan, 3], [4, 0, 2, 3]])
def test_boxes_that_are_none_are_refused_when_they_are_made(folder, tmp_path, box):
    with pytest.raises(
        InputError, match=r"proposals of 'n01\.x/c\.jpg' hold a box that is not finite or whose corners"
    ):
        write(tmp_path / "out", folder, propose=lambda image, *, seed: np.array([box]))


@pytest.mark.parametrize("damage", ["cut tar", "cut index", "no index", "no tar"])
def test_what_is_not_whole_is_not_finished(out, tmp_path, damage):
    for name in ("shard-000001.tar", "shard-000001.json"):
        (tmp_path / name).write_bytes((out[0] / name).read_bytes())
    assert shards.finished(tmp_path, "shard-000001")["samples"] == 2
    path = tmp_path / f"shard-000001.{'tar' if 'tar' in damage else 'json'}"
    if damage.startswith("no"):
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-10])
    assert shards.finished(tmp_path, "shard-000001") is None

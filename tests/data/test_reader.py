"""Shards written here by hand, whole and damaged."""

import io
import json
import pickle
import re
import tarfile
import zlib

import cv2
import numpy as np
import pytest

from proseco.base.errors import InputError
from proseco.base.files import digests
from proseco.data import reader
from proseco.data.reader import ShardReader

COUNTS = [3, 0, 4, 1]  # samples of each shard; of the second all images were left out
TOTAL = sum(COUNTS)


def contents(number):
    """Image and boxes of a sample; every third has no box."""
    rng = np.random.default_rng(number)
    image = np.full((20 + number, 40 - number, 3), 20 * number, np.uint8)
    low = rng.uniform(0, 10, (number % 3, 2))
    return image, np.concatenate([low, low + 1 + number], 1).astype(np.float32)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def summarise(folder):
    """The summary of what is there."""
    indexes = digests(sorted(folder.glob("shard-*.json")))
    (folder / "summary.json").write_text(json.dumps({"shards": len(COUNTS), "samples": TOTAL, "indexes": indexes}))


def write(folder, change=lambda number, members: None):
    """Shards as stage propose writes them; ``change`` may alter a sample's members before they are stored."""
    folder.mkdir()
    number = 0
    for shard, count in enumerate(COUNTS):
        buffer, samples = io.BytesIO(), []
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for key in (f"ü{shard}/{i}" for i in range(count)):
                image, boxes = contents(number)
                members = {"boxes.npy": npy(boxes), "png": cv2.imencode(".png", image[..., ::-1])[1].tobytes()}
                members["json"] = json.dumps({"key": key}).encode()
                change(number, members)
                for extension, data in members.items():
                    info = tarfile.TarInfo(f"{key}.{extension}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
                number += 1
        with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as tar:
            for member in tar:
                key, _, extension = member.name.partition(".")
                if not samples or samples[-1]["key"] != key:
                    height, width = contents(len(samples) + sum(COUNTS[:shard]))[0].shape[:2]
                    samples.append({"key": key, "size": [width, height]})
                crc = zlib.crc32(tar.extractfile(member).read())
                place = [member.offset_data, member.size, crc]
                samples[-1][{"png": "image"}.get(extension, extension)] = place
        (folder / f"shard-{shard:06d}.tar").write_bytes(buffer.getvalue())
        index = {"bytes": len(buffer.getvalue()), "samples": samples, "statistics": {}}
        (folder / f"shard-{shard:06d}.json").write_text(json.dumps(index))
    summarise(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "out")


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def refusal(folder, *numbers):
    """The one line with which opening the shards, or reading these samples, is refused."""
    with pytest.raises(InputError) as caught:
        opened = ShardReader(folder)
        for number in numbers:
            opened[number]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(opened, numbers):
    keys = [f"ü{shard}/{i}" for shard, count in enumerate(COUNTS) for i in range(count)]
    for number in numbers:
        image, boxes = contents(number)
        sample = opened[number]
        assert sample.key == opened.key(number) == keys[number]
        assert (sample.image == image).all() and sample.boxes_xyxy.dtype == np.float32
        assert sample.boxes_xyxy.shape == (number % 3, 4) and (sample.boxes_xyxy == boxes).all()
        assert sample.labels.shape == (0,)
        assert opened.size(number) == (image.shape[1], image.shape[0])
        assert opened.raw(number)[::2] == (keys[number], npy(boxes))


def test_random_access_in_any_order_and_process(folder):
    opened = ShardReader(folder)
    assert len(opened) == TOTAL
    check(opened, range(TOTAL))
    copy = pickle.loads(pickle.dumps(opened))
    assert opened._files._open and not copy._files._open  # descriptors do not travel
    check(copy, (7, 0, 5, 5, 2))
    for number in (TOTAL, -1):
        with pytest.raises(IndexError):
            opened[number]


def test_no_more_files_are_open_than_a_process_may_have(folder, monkeypatch):
    monkeypatch.setattr(reader, "_OPEN", 2)
    opened = ShardReader(folder)
    for numbers in ((0, 4, 7), (0, 4, 7), (7, 0)):
        check(opened, numbers)
        assert len(opened._files._open) == 2
    assert {path.name for path in opened._files._open} == {"shard-000003.tar", "shard-000000.tar"}


def test_no_shards(tmp_path):
    for path in (tmp_path, tmp_path / "gone"):
        assert re.match(r"no shards in '.*', which lacks summary\.json; stage propose", refusal(path))


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"shards": 4}', '{"shards": 4, "samples": "8"}', '{"shards": 0, "samples": 0}']
)
def test_a_summary_that_counts_nothing(folder, text):
    (folder / "summary.json").write_text(text)
    assert "summary.json" in refusal(folder)


@pytest.mark.parametrize("name", ["shard-000001.tar", "shard-000002.json", "shard-000003.tar"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert f"lacks {name}: its summary counts 4 shards" in refusal(folder)


def test_several_missing_files_are_counted(folder):
    for path in folder.glob("shard-00000[23].*"):
        path.unlink()
    assert "lacks shard-000002.json and 3 more: its summary counts 4 shards" in refusal(folder)


def test_a_shard_too_many_is_named(folder):
    (folder / "shard-000004.tar").write_bytes(b"")
    assert "has besides shard-000004.tar: its summary counts 4 shards" in refusal(folder)


def test_samples_are_counted(folder):
    edit(folder / "shard-000002.json", lambda index: index["samples"].pop())
    assert f"list {TOTAL - 1} samples, its summary {TOTAL}" in refusal(folder)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_tar_of_another_size_is_named(folder, change):
    tar = folder / "shard-000002.tar"
    size = tar.stat().st_size
    tar.write_bytes((tar.read_bytes() + b"\0")[: size + change])
    assert refusal(folder).endswith(f"shard-000002.tar' has {size + change} bytes; its index says {size}")


def alter(member, value):
    return lambda index: index["samples"][1].update({member: value})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda index: index.pop("bytes"), "KeyError 'bytes'"),
        (lambda index: index.pop("samples"), "KeyError 'samples'"),
        (lambda index: index.update(samples=3), "TypeError"),
        (lambda index: index["samples"][1].pop("key"), "KeyError 'key'"),
        (lambda index: index["samples"][1].pop("image"), "KeyError 'image'"),
        (lambda index: index["samples"][1].pop("size"), "KeyError 'size'"),
        (alter("size", [9, 0]), "a size is not [width, height]"),
        (alter("size", [9, 9.7]), "a size is not [width, height]"),
        (alter("size", [9, 2**31]), "a size is not [width, height]"),
        (alter("key", 3), "AttributeError"),
        (alter("image", [512, 9]), "ValueError"),  # of an older version, without checksum
        (alter("image", [512, 9, 1.5]), "members are float64"),
        (alter("image", [512, 9, "x"]), "members are <U"),
        (alter("boxes.npy", [-512, 9, 0]), "a member lies outside of the shard"),
        (alter("boxes.npy", [512, 10**9, 0]), "a member lies outside of the shard"),
    ],
)
def test_a_damaged_index_is_named(folder, change, words):
    edit(folder / "shard-000002.json", change)
    message = refusal(folder)
    assert "shard-000002.json' is no index of a shard" in message and words in message and "dvc repro" in message


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\xff"])
def test_an_index_that_is_none_is_named(folder, text):
    (folder / "shard-000002.json").write_bytes(text.encode("latin1"))
    assert "shard-000002.json'" in refusal(folder)


@pytest.mark.parametrize("member", ["image", "boxes.npy"])
def test_one_flipped_bit_is_found_where_it_is_read(folder, member):
    place = json.loads((folder / "shard-000002.json").read_text())["samples"][1][member]
    tar = folder / "shard-000002.tar"
    data = bytearray(tar.read_bytes())
    data[place[0] + place[1] - 1] ^= 1
    tar.write_bytes(data)
    check(ShardReader(folder), (0, 1, 2, 3, 5, 6, 7))
    message = refusal(folder, 4)
    assert f"shard-000002.tar', sample 'ü2/1': {member} is damaged: its checksum is not that of the index" in message


def test_a_tar_cut_or_removed_while_it_is_read_is_named(folder):
    opened = ShardReader(folder)
    with open(folder / "shard-000002.tar", "r+b") as tar:
        tar.truncate(700)
    with pytest.raises(InputError, match=r"shard-000002\.tar', sample 'ü2/3': boxes.npy is damaged: 0 of \d+ bytes"):
        opened[6]
    (folder / "shard-000000.tar").unlink()
    with pytest.raises(InputError, match=r"cannot read shard '.*shard-000000\.tar': No such file"):
        opened[0]


@pytest.mark.parametrize("suffixes", [("tar",), ("json",), ("tar", "json")])
def test_shards_that_changed_places_are_noticed(tmp_path, suffixes):
    folder = write(tmp_path / "out")
    for suffix in suffixes:
        first, other = (folder / f"shard-{i:06d}.{suffix}" for i in (0, 2))
        first.rename(folder / "aside")
        other.rename(first)
        (folder / "aside").rename(other)
    words = "is not the one that its summary was written for" if len(suffixes) == 2 else "its index says"
    assert words in refusal(folder)


def test_a_shard_of_another_run_is_noticed(tmp_path):
    """Whole, of equal size, with its own index: only the boxes differ."""
    folder = write(tmp_path / "out")
    other = write(
        tmp_path / "other", lambda number, members: number == 5 and members.update({"boxes.npy": npy(BOX * 2)})
    )
    for suffix in ("tar", "json"):
        (other / f"shard-000002.{suffix}").rename(folder / f"shard-000002.{suffix}")
    assert "is not the one that its summary was written for" in refusal(folder)
    summarise(folder)
    assert (ShardReader(folder)[5].boxes_xyxy == BOX * 2).all()


BOX = np.array([[1, 2, 3, 4]], np.float32)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "boxes.npy cannot be decoded"),
        (b"PK\x03\x04 no array", "boxes.npy cannot be decoded"),
        (npy(BOX)[:-2], "boxes.npy cannot be decoded"),
        (npy(np.array([{}])), "boxes.npy cannot be decoded"),  # a pickle
        (npy(BOX.astype(np.float64)), r"boxes.npy is float64 (1, 4); expected float32 (n, 4)"),
        (npy(BOX[:, :3]), "boxes.npy is float32 (1, 3)"),
        (npy(BOX[0]), "boxes.npy is float32 (4,)"),
        (npy(BOX * np.nan), "not finite"),
        (npy(BOX[:, ::-1]), "corners are not in order"),
    ],
)
def test_boxes_that_are_none_are_named(tmp_path, data, words):
    """With the right checksum: they were written so."""
    out = write(tmp_path / "out", lambda number, members: number == 5 and members.update({"boxes.npy": data}))
    check(ShardReader(out), range(5))
    message = refusal(out, 5)
    assert "shard-000002.tar', sample 'ü2/2': " in message and words in message


def test_an_image_that_is_none_is_named(tmp_path):
    out = write(tmp_path / "out", lambda number, members: number == 7 and members.update(png=b"text"))
    assert "shard-000003.tar', sample 'ü3/0': not an image that can be decoded" in refusal(out, 7)

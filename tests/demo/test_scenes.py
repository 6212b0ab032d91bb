import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from proseco.demo import data_sets, scenes
from proseco.demo.shapes import DETECTION, KINDS, outline, texture

# The demo's own: side, and pictures of each labelled subset.
DEFAULT = {
    **{"coco_train2017": 480, "coco_val2017": 200, "voc_2007_trainval": 300, "voc_2007_test": 200},
    **{"voc_2012_trainval": 300, "fsod_train": 60, "fsod_test": 60},
}


@pytest.fixture(scope="module")
def drawn():
    """Things of every labelled picture of the default size."""
    return {name: [data_sets.draw(7, name, index, 96)[1] for index in range(n)] for name, n in DEFAULT.items()}


def box_oracle(mask):
    """Tight box by looking at every pixel."""
    inside = [(x, y) for y, row in enumerate(mask.tolist()) for x, value in enumerate(row) if value]
    xs, ys = zip(*inside, strict=True)
    return min(xs), min(ys), max(xs) + 1, max(ys) + 1


def test_pixels_do_not_depend_on_the_processor():
    """Floats are compared, before rounding to bytes could hide a difference in most pixels."""
    code = (
        "import hashlib; from proseco.demo import data_sets, scenes\n"
        "develop, parts = scenes.develop, []\n"
        "scenes.develop = lambda rng, canvas: (parts.append(canvas.tobytes()), develop(rng, canvas))[1]\n"
        "parts += [data_sets.draw(7, d, i, 64)[0].tobytes() for d in ('coco_val2017', 'imagenet') for i in range(25)]\n"
        "print(len(parts), hashlib.blake2b(b''.join(parts)).hexdigest())"
    )
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    plain = {"NPY_DISABLE_CPU_FEATURES": " ".join(found), "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,FMA3,AVX"}
    root = Path(__file__).resolve().parents[2]
    digests = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **extra},
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for extra in ({}, plain)
    ]
    assert digests[0].startswith("100 ")
    assert digests[0] == digests[1]


def test_boxes_are_tight_and_inside_and_nothing_is_nearly_hidden(drawn):
    things = [thing for things in drawn["coco_val2017"] for thing in things]
    for thing in things[::3]:
        assert thing.box_xyxy == box_oracle(thing.mask)
    assert all(thing.visible >= scenes.MIN_VISIBLE for things in drawn.values() for t in things for thing in t)
    assert any(thing.visible < 0.5 for thing in things)
    assert any(thing.cut for thing in things) and any(not thing.cut for thing in things)
    for scene in drawn["coco_val2017"][:40]:
        assert sum((thing.mask.astype(int) for thing in scene), np.zeros((1, 1), int)).max() <= 1  # none share a pixel


def test_masks_are_where_the_objects_are_painted(monkeypatch):
    """On black, under a camera that adds nothing, what is not black is an object."""
    monkeypatch.setattr(scenes, "background", lambda rng, h, w: np.zeros((3, h, w), np.float32))
    monkeypatch.setattr(scenes, "develop", lambda rng, canvas: np.rint(canvas.transpose(1, 2, 0)))
    for kind in range(len(KINDS)):
        rng = np.random.default_rng(kind)
        picture, things = scenes.scene(rng, 70, 90, kinds=[kind], count=3)
        assert things
        union = np.any([thing.mask for thing in things], axis=0)
        painted = picture.max(axis=2) > 0
        assert painted[union].all()
        grown = cv2.dilate(union.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0  # anti-aliased rims
        assert painted[~grown].sum() <= 0.05 * union.sum()  # tips thinner than half a pixel


def test_every_class_and_pictures_without_objects_are_in_each_default_subset(drawn):
    for name, pictures in drawn.items():
        kinds = Counter(thing.kind for things in pictures for thing in things)
        wanted = range(DETECTION, 12) if name == "fsod_test" else range(DETECTION)
        assert set(kinds) == set(wanted), name
        assert 0 < sum(not things for things in pictures) <= len(pictures) / 12, name
        assert max(map(len, pictures)) == 5
    hard = [thing.visible < 0.5 for things in drawn["voc_2007_test"] for thing in things]
    assert 0.005 < np.mean(hard) < 0.15


def test_outlines_and_textures():
    for kind in KINDS:
        paths = outline(kind.name)
        assert all(path.ndim == 2 and np.hypot(*path.T).max() <= 1 + 1e-6 for path in paths), kind.name
        values = texture(
            kind.texture, *np.meshgrid(np.linspace(-1, 1, 30), np.linspace(-1, 1, 40)), np.zeros((40, 30)), waves=2
        )
        assert values.min() >= 0 and values.max() <= 1
    with pytest.raises(ValueError, match="no outline named 'blob'"):
        outline("blob")


def test_selective_search_finds_the_objects():
    search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation
    found = []
    for index in range(30):
        image, things = data_sets.draw(7, "scenes", index, 96)
        searcher = search()
        searcher.setBaseImage(np.ascontiguousarray(image[..., ::-1]))
        searcher.switchToSelectiveSearchFast()
        boxes = searcher.process().astype(float)
        boxes[:, 2:] += boxes[:, :2]
        for thing in things:
            x0, y0, x1, y1 = thing.box_xyxy
            width = np.clip(np.minimum(boxes[:, 2], x1) - np.maximum(boxes[:, 0], x0), 0, None)
            shared = width * np.clip(np.minimum(boxes[:, 3], y1) - np.maximum(boxes[:, 1], y0), 0, None)
            areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) + (x1 - x0) * (y1 - y0)
            found.append((shared / (areas - shared)).max() >= 0.5)
    assert len(found) > 60
    assert np.mean(found) > 0.85

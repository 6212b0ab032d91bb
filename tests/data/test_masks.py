"""Masks follow their images; pycocotools is the reference."""

import numpy as np
import pytest
from pycocotools import mask as coco

from proseco.data import augment, masks

HEIGHT, WIDTH = 40, 56
SQUARE, STAR = [10.0, 8, 30, 8, 30, 28, 10, 28], [40.0, 2, 44, 20, 54, 22, 44, 26, 41.5, 38, 36, 24, 30, 20, 37, 18]
PARTS = [[2.0, 2, 8, 2, 8, 6], [20.0, 30, 28, 30, 28, 38, 20, 38]]


def reference(polygons, height=HEIGHT, width=WIDTH):
    return coco.decode(coco.merge(coco.frPyObjects(polygons, height, width)))


def test_unmoved_outlines_are_cocos_masks():
    objects = [masks.outlines(value) for value in ([SQUARE], PARTS, [STAR])]
    points = masks.flatten(objects)
    drawn = masks.draw(objects, points, np.array([0, 2, 1]), (HEIGHT, WIDTH))
    assert drawn.shape == (3, HEIGHT, WIDTH) and drawn.dtype == np.uint8
    for row, polygons in zip(drawn, ([SQUARE], [STAR], PARTS), strict=True):
        assert (row == reference(polygons)).all()
    assert drawn[0].sum() == 20 * 20
    points += 3
    assert objects[0][0][0].tolist() == [10, 8]  # the points are a copy


@pytest.mark.parametrize("compressed", [False, True])
def test_run_lengths_are_traced(compressed):
    truth = reference([STAR])
    runs = coco.encode(np.asfortranarray(truth))
    if compressed:
        runs = {"size": runs["size"], "counts": runs["counts"].decode()}
    else:
        flat = truth.T.ravel()
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [flat[-1]]])))
        runs = {"size": [HEIGHT, WIDTH], "counts": np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()}
        assert (coco.decode(coco.frPyObjects(runs, HEIGHT, WIDTH)) == truth).all()
    objects = [masks.outlines(runs)]
    drawn = masks.draw(objects, masks.flatten(objects), np.array([0]), (HEIGHT, WIDTH))[0]
    assert (drawn & truth).sum() / (drawn | truth).sum() > 0.9


@pytest.mark.parametrize("segmentation", [[], [[1.0, 2, 3, 4]], {"size": [4, 5], "counts": [20]}])
def test_no_outline(segmentation):
    assert masks.outlines(segmentation) == []
    assert masks.flatten([]).shape == masks.flatten([[], []]).shape == (0, 2)
    assert masks.draw([[], []], masks.flatten([[], []]), np.array([1]), (4, 5)).sum() == 0
    assert masks.draw([], masks.flatten([]), np.array([], int), (4, 5)).shape == (0, 4, 5)


def test_what_leaves_the_frame_is_cut_off():
    objects = [[np.float32([[-20, 20], [28, -8], [76, 20], [28, 48]])]]
    drawn = masks.draw(objects, masks.flatten(objects), np.array([0]), (HEIGHT, WIDTH))[0]
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    corners = objects[0][0]
    inside = np.ones((HEIGHT, WIDTH), bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
        inside &= (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0) > 0
    assert 0 < inside.sum() < inside.size
    assert (inside != drawn.astype(bool)).mean() < 0.02  # the pixels of the edge


@pytest.mark.parametrize("seed", range(8))
def test_points_move_as_boxes_do(seed):
    """A box is two of its corners, where nothing is clipped."""
    weak = {"short_edges": [30, 50], "long_edge": 75, "first_short_edges": [44], "crop_min": 24, "crop_max": 40}
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    boxes = np.float32([[24, 18, 30, 22]])
    points = boxes.reshape(2, 2).copy()
    view, moved, kept = augment.weak(image, boxes, np.random.default_rng(seed), points, **weak)
    again, same, _ = augment.weak(image, boxes, np.random.default_rng(seed), **weak)
    assert view.shape == again.shape and (moved == same).all()
    if kept.all():
        clipped = points.clip(0, (view.shape[1], view.shape[0]))
        low, high = clipped.min(0), clipped.max(0)
        assert np.abs(np.concatenate([low, high]) - moved[0]).max() < 1e-3

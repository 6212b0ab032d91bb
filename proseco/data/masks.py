"""Objects' masks: kept as outlines until an image has its final size, then drawn as pycocotools draws them.

The outlines of an image's objects are one list of polygons per object, each (m, 2) float32 x and y in pixels. To move
them is to move their corners, which is cheap and exact.
"""

import cv2
import numpy as np
from pycocotools import mask as coco

_FINER = 4  # an outline traced at that many times the resolution is an eighth of a pixel off


def outlines(segmentation: list | dict) -> list[np.ndarray]:
    """COCO's ``segmentation`` of one object, polygons or run lengths, as polygons; [] if it is empty.

    Holes in run lengths are filled, because COCO's polygons have none.

    :raises ValueError: it is neither.
    """
    if isinstance(segmentation, dict):
        height, width = map(int, segmentation["size"])
        if isinstance(segmentation["counts"], list):
            segmentation = coco.frPyObjects(segmentation, height, width)
        filled = np.repeat(np.repeat(coco.decode(segmentation), _FINER, 0), _FINER, 1)
        traced, _ = cv2.findContours(np.ascontiguousarray(filled), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        polygons = [(line[:, 0].astype(np.float32) + 0.5) / _FINER for line in traced]
    else:
        polygons = [np.asarray(polygon, np.float32).reshape(-1, 2) for polygon in segmentation]
    return [polygon for polygon in polygons if len(polygon) > 2]


def flatten(objects: list[list[np.ndarray]]) -> np.ndarray:
    """A copy of all corners of an image's outlines, in order: (P, 2)."""
    corners = [polygon for polygons in objects for polygon in polygons]
    return np.concatenate([np.zeros((0, 2), np.float32), *corners])


def draw(objects: list[list[np.ndarray]], points: np.ndarray, numbers: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Masks of some of an image's objects.

    :param objects: outlines of all its objects, from which come the numbers of corners.
    :param points: the corners of :func:`flatten`, moved to where they are now.
    :param numbers: (n,) of the objects to draw; ``size``: height and width of the masks in pixels.
    :returns: (n, height, width) uint8, 1 on the object; what lies outside is cut off.
    """
    height, width = size
    lengths = [[len(polygon) for polygon in polygons] for polygons in objects]
    starts = np.cumsum([0, *map(sum, lengths)])
    drawn = np.zeros((len(numbers), height, width), np.uint8)
    for row, number in zip(drawn, numbers, strict=True):
        own = np.split(points[starts[number] : starts[number + 1]], np.cumsum(lengths[number])[:-1])
        if len(own[0]):
            polygons = [polygon.ravel().tolist() for polygon in own]
            row[:] = coco.decode(coco.merge(coco.frPyObjects(polygons, height, width)))
    return drawn

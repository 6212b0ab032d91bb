"""Average precision by the rule of Pascal VOC 2007, with numpy.

Everingham et al., The Pascal Visual Object Classes (VOC) Challenge, IJCV 2010, section 4.2. A detection belongs to the
object of its class with which its IoU is highest, even if that object has already been found. COCO's rule gives it the
best of those that are left, so that a second detection of one object can be a right one of its neighbour.
"""

import numpy as np

from proseco.evaluation import coco_ap

#: A detection fits at this IoU or more, as in VOC's own program and COCO's; in DETReg's copy it must exceed it.
IOUS = np.arange(50, 100, 5) / 100
#: AP averages precision at a recall of 0, .1, ..., 1.
STEPS = 10
#: Square pixels, both ends included: all objects, and COCO's small, medium and large ones.
AREAS = ((0, np.inf), (0, 32**2), (32**2, 96**2), (96**2, np.inf))


def score(annotations: dict, detections: np.ndarray) -> dict:
    """Average precision over IoU .50:.95 and its relatives; arguments, result and errors as of :func:`coco_ap.score`.

    Of the detections that fit an object the one of highest score is right, the others are wrong, and so is one that
    fits none. One that fits a difficult object is neither, and that object need not be found. VOC has no crowds: here
    they are difficult objects. Nor has it sizes: for ``APs``, ``APm`` and ``APl`` objects of other sizes are difficult,
    and a wrong detection of another size does not count, as with COCO. All detections of an image count, however many.
    """
    detections = coco_ap.checked(annotations, detections)
    # Class by class, the best first; of equal scores by image, then as they came: COCO's order.
    detections = detections[np.lexsort((detections[:, 0], -detections[:, 5], detections[:, 6]))]
    objects = annotations["annotations"]
    areas = np.array([record["area"] for record in objects])
    kinds = np.array([record["category_id"] for record in objects])
    difficult = np.array([coco_ap.passed_over(record) for record in objects], dtype=bool)
    best, iou = _best(annotations, detections)
    fits = iou >= IOUS[:, None]  # (thresholds, detections)
    first = np.stack([_first(best, row) for row in fits])
    sizes = detections[:, 3] * detections[:, 4]
    classes = [category["id"] for category in annotations["categories"]]
    parts = [slice(*np.searchsorted(detections[:, 6], (number, number + 1))) for number in classes]
    precision = np.full((len(IOUS), STEPS + 1, len(classes), len(AREAS)), -1.0)  # where there is nothing to find
    for column, (low, high) in enumerate(AREAS):
        passed = difficult | (areas < low) | (areas > high)
        neither = fits & np.append(passed, False)[best]  # the one appended is that of -1, no object
        right = first & ~neither
        wrong = ~first & ~neither & (low <= sizes) & (sizes <= high)
        for row, (number, part) in enumerate(zip(classes, parts, strict=True)):
            if count := np.count_nonzero(kinds[~passed] == number):
                precision[:, :, row, column] = _precision(right[:, part], wrong[:, part], count)
    return coco_ap.summary(annotations, precision, difficult)


def _best(annotations: dict, detections: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row of the object that has the highest IoU with each detection, the first of equals, and that IoU.

    -1 and 0 if the image has no object of the class, or none that touches. (n, 7) -> (n,) int64, (n,) float64.
    """
    objects = annotations["annotations"]
    boxes = np.array([record["bbox"] for record in objects], dtype=np.float64).reshape(-1, 4)
    images = np.sort([record["id"] for record in annotations["images"]])
    stride = 1 + max((category["id"] for category in annotations["categories"]), default=0)

    def group(image: np.ndarray, category: np.ndarray) -> np.ndarray:
        """A number for each image and class."""
        return np.searchsorted(images, image) * stride + category.astype(np.int64)

    of_objects = group(*np.array([[r["image_id"], r["category_id"]] for r in objects], dtype=np.int64).reshape(-1, 2).T)
    order = np.argsort(of_objects, kind="stable")
    wanted = group(detections[:, 0], detections[:, 6])
    start, end = (np.searchsorted(of_objects[order], wanted, side) for side in ("left", "right"))
    best, iou = np.full(len(detections), -1), np.zeros(len(detections))
    for turn in range(max(end - start, default=0)):  # the first object of all groups, then the second
        rows = np.flatnonzero(start + turn < end)
        candidate = order[start[rows] + turn]
        overlap = _iou(detections[rows, 1:5], boxes[candidate])
        higher = overlap > iou[rows]
        best[rows[higher]], iou[rows[higher]] = candidate[higher], overlap[higher]
    return best, iou


def _iou(a_xywh: np.ndarray, b_xywh: np.ndarray) -> np.ndarray:
    """IoU row by row, 0 where neither box has an area. (n, 4), (n, 4) -> (n,)."""
    low = np.maximum(a_xywh[:, :2], b_xywh[:, :2])
    high = np.minimum(a_xywh[:, :2] + a_xywh[:, 2:], b_xywh[:, :2] + b_xywh[:, 2:])
    shared = (high - low).clip(0).prod(1)
    union = a_xywh[:, 2:].prod(1) + b_xywh[:, 2:].prod(1) - shared
    return shared / union.clip(np.finfo(np.float64).tiny)


def _first(best: np.ndarray, fits: np.ndarray) -> np.ndarray:
    """Which detections are the first to fit their object. (n,), (n,) bool -> (n,) bool."""
    rows = np.flatnonzero(fits)
    first = np.zeros(len(fits), dtype=bool)
    first[rows[np.unique(best[rows], return_index=True)[1]]] = True
    return first


def _precision(right: np.ndarray, wrong: np.ndarray, count: int) -> np.ndarray:
    """The highest precision at a recall of each level or more, 0 if none is that high.

    :param right: (thresholds, detections), best first; ``wrong`` likewise; ``count``: number of objects to find.
    :returns: (thresholds, STEPS + 1).
    """
    right, wrong = right.cumsum(1), wrong.cumsum(1)
    precision = right / np.maximum(right + wrong, 1)
    # Whole numbers: 3 of 10 is a recall of .3, which is below 3 * .1 in floating point.
    return np.stack([np.where(STEPS * right >= k * count, precision, 0).max(1, initial=0) for k in range(STEPS + 1)], 1)

"""COCO's average precision of boxes, by pycocotools."""

import contextlib
import io

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

_METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class _Eval(COCOeval):
    """COCOeval in which an object can be ignored without being a crowd.

    pycocotools sets ``ignore`` from ``iscrowd``, and compares crowds by the share of the detection inside them; a
    difficult object of VOC is ignored but compared by plain IoU.
    """

    def _prepare(self) -> None:
        super()._prepare()
        for objects in self._gts.values():
            for record in objects:
                record["ignore"] = int(record["ignore"] or record["ignored"])


def score(
    annotations: dict, detections: np.ndarray, *, max_detections: int = 100, ignore_difficult: bool = True
) -> dict:
    """Average precision over IoU .50:.95 and its relatives.

    Crowds and, by default, difficult objects are ignored: they need not be found, and a detection that fits one and
    nothing else is neither right nor wrong.

    :param annotations: COCO-format dict (:mod:`proseco.data.annotations`). All of its images count, also those
        without objects: what is detected there is wrong.
    :param detections: Nx7 numbers, one row a box: image id, x, y, w, h (pixels), score, category id: the array form
        of pycocotools' ``loadRes``. float64, as float32 does not hold image ids above 2^24.
    :param max_detections: the best so many of each image and class count.
    :returns: ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl`` in percent, None where there is no object to
        find; and ``per_class``: name -> AP.
    :raises ValueError: another shape or dtype, a number that is not finite, an unknown image or category.
    """
    detections = _checked(annotations, detections)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        truth = COCO()
        truth.dataset = {
            "info": {},
            "images": annotations["images"],
            "categories": annotations["categories"],
            # Numbered anew from 1: pycocotools takes a match with annotation 0 for none.
            "annotations": [
                {**record, "id": i, "ignored": int(ignore_difficult and record["difficult"])}
                for i, record in enumerate(annotations["annotations"], 1)
            ],
        }
        truth.createIndex()
        found = truth.loadRes(detections) if len(detections) else _nothing(truth)
        evaluation = _Eval(truth, found, "bbox")
        evaluation.params.maxDets = [max_detections]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][..., -1]  # thresholds x recalls x classes x areas
    parts = [precision[..., 0], precision[0, ..., 0], precision[5, ..., 0], *(precision[..., i] for i in (1, 2, 3))]
    names = [category["name"] for category in annotations["categories"]]
    if len(set(names)) < len(names):
        names = [f"{category['name']} ({category['original_id']})" for category in annotations["categories"]]
    per_class = {name: _percent(precision[:, :, i, 0]) for i, name in enumerate(names)}
    return {name: _percent(part) for name, part in zip(_METRICS, parts, strict=True)} | {"per_class": per_class}


def _percent(precision: np.ndarray) -> float | None:
    """Mean in percent; pycocotools marks with -1 what has no object to find."""
    known = precision[precision > -1]
    return float(known.mean() * 100) if known.size else None


def _nothing(truth: COCO) -> COCO:
    """The result of a detector that found nothing; ``loadRes`` refuses an empty one."""
    found = COCO()
    found.dataset = {**truth.dataset, "annotations": []}
    found.createIndex()
    return found


def _checked(annotations: dict, detections: np.ndarray) -> np.ndarray:
    detections = np.asarray(detections)
    if detections.size == 0:
        detections = np.zeros((0, 7))
    if detections.ndim != 2 or detections.shape[1] != 7 or detections.dtype != np.float64:
        raise ValueError(f"detections are {detections.dtype} of shape {detections.shape}; expected float64, Nx7")
    if not np.isfinite(detections).all():
        raise ValueError("detections hold a number that is not finite")
    for what, column, records in (("image", 0, "images"), ("category", 6, "categories")):
        unknown = np.setdiff1d(
            detections[:, column].astype(np.int64), [record["id"] for record in annotations[records]]
        )
        if unknown.size:
            raise ValueError(f"detections name {what} {unknown[0]}, which is not in the annotations")
    return detections

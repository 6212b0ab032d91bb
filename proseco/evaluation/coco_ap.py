"""COCO's average precision of boxes, by faster-coco-eval, whose figures are pycocotools' (tests)."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from proseco.base import files

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


class _Eval(COCOeval_faster):
    """COCOeval in which an object can be ignored without being a crowd.

    The library sets ``ignore`` from ``iscrowd``, and compares crowds by the share of the detection inside them; a
    difficult object of VOC is ignored but compared by plain IoU.
    """

    def _prepare(self) -> None:
        super()._prepare()
        for record in self.cocoGt.anns.values():
            record["ignore"] = int(record["iscrowd"] or record["ignored"])


def score(
    annotations: dict,
    detections: np.ndarray,
    *,
    max_detections: int = 100,
    ignore_difficult: bool = True,
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
        find; and ``per_class``: name -> these six of the class alone, and ``objects``, how many there are to find.
    :raises ValueError: another shape or dtype, a number that is not finite, an unknown image or category.
    """
    detections = checked(annotations, detections)
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": annotations["images"],
        "categories": annotations["categories"],
        # Numbered anew from 1: a match with annotation 0 would be taken for none.
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
    passed = [record["iscrowd"] or record["ignored"] for record in truth.dataset["annotations"]]
    return summary(annotations, evaluation.eval["precision"][..., -1], passed)


def checked(annotations: dict, detections: np.ndarray) -> np.ndarray:
    """The rows that :func:`score` takes, an empty array of any shape as none of them.

    :raises ValueError: as :func:`score`.
    """
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


def summary(annotations: dict, precision: np.ndarray, passed: Sequence[bool]) -> dict:
    """What :func:`score` returns.

    :param precision: at levels of recall, 0..1, -1 where there is no object to find: thresholds .50:.95 x levels x
        classes x areas (all, small, medium, large).
    :param passed: of each annotation whether it need not be found.
    """
    counts = dict.fromkeys((category["id"] for category in annotations["categories"]), 0)
    for record, ignored in zip(annotations["annotations"], passed, strict=True):
        counts[record["category_id"]] += not ignored
    per_class = {
        name: {"objects": counts[category["id"]]} | _figures(precision[:, :, row : row + 1])
        for row, (name, category) in enumerate(zip(_names(annotations), annotations["categories"], strict=True))
    }
    return _figures(precision) | {"per_class": per_class}


def write_per_class(path: str | Path, per_class: dict[str, dict]) -> None:
    """The figures of each class as CSV, a row a class; a figure that is undefined is an empty field.

    :param per_class: as :func:`score` returns it.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, ["class", "objects", *METRICS], lineterminator="\n")
    writer.writeheader()
    for name, figures in per_class.items():
        writer.writerow({"class": name} | {key: value for key, value in figures.items() if value is not None})
    files.write_text(path, text.getvalue())


def _names(annotations: dict) -> list[str]:
    """Names of the classes; with their original ids where two share one."""
    names = [category["name"] for category in annotations["categories"]]
    if len(set(names)) == len(names):
        return names
    return [f"{category['name']} ({category['original_id']})" for category in annotations["categories"]]


def _figures(precision: np.ndarray) -> dict[str, float | None]:
    """:data:`METRICS` of thresholds x levels of recall x classes x areas."""
    parts = [precision[..., 0], precision[0, ..., 0], precision[5, ..., 0], *(precision[..., i] for i in (1, 2, 3))]
    return {name: _percent(part) for name, part in zip(METRICS, parts, strict=True)}


def _percent(precision: np.ndarray) -> float | None:
    """Mean in percent; -1 marks what has no object to find."""
    known = precision[precision > -1]
    return float(known.mean() * 100) if known.size else None


def _nothing(truth: COCO) -> COCO:
    """The result of a detector that found nothing; ``loadRes`` refuses an empty one."""
    found = COCO()
    found.dataset = {**truth.dataset, "annotations": []}
    found.createIndex()
    return found

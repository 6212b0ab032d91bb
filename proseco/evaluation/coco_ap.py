"""COCO's average precision of boxes, by faster-coco-eval, whose figures are pycocotools' (tests)."""

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
            record["ignore"] = int(passed_over(record))


def passed_over(record: dict) -> bool:
    """Whether an object is a crowd or difficult; labels that do not say so have neither."""
    return bool(record.get("iscrowd", 0) or record.get("difficult", 0))


def score(annotations: dict, detections: np.ndarray, *, max_detections: int = 100) -> dict:
    """Average precision over IoU .50:.95 and its relatives.

    Crowds and difficult objects are ignored: they need not be found, and a detection that fits one and nothing else is
    neither right nor wrong.

    :param annotations: COCO-format dict (:mod:`proseco.data.annotations`). All of its images count, also those
        without objects: what is detected there is wrong.
    :param detections: (n, 7), one row per box: image id, x, y, w, h (pixels), score, category id: the array form of
        pycocotools' ``loadRes``. float64, because float32 does not hold image ids above 2^24.
    :param max_detections: per image and class only that many count, those of highest score.
    :returns: ``AP``, ``AP50``, ``AP75``, ``APs``, ``APm``, ``APl`` in percent, None if there is no object to find;
        and ``per_class``: name -> the same six for this class, and ``objects``, the number of objects to find.
    :raises ValueError: another shape or dtype, a number that is not finite, an unknown image or category.
    """
    detections = checked(annotations, detections)
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": annotations["images"],
        "categories": annotations["categories"],
        # Numbered from 1, because a match with annotation 0 would be taken for none.
        "annotations": [{**record, "id": i} for i, record in enumerate(annotations["annotations"], 1)],
    }
    truth.createIndex()
    results = truth.loadRes(detections) if len(detections) else _nothing(truth)
    evaluation = _Eval(truth, results, "bbox")
    evaluation.params.maxDets = [max_detections]
    evaluation.evaluate()
    evaluation.accumulate()
    ignored = [passed_over(record) for record in annotations["annotations"]]
    return summary(annotations, evaluation.eval["precision"][..., -1], ignored)


def checked(annotations: dict, detections: np.ndarray) -> np.ndarray:
    """The rows that :func:`score` takes; an empty array of any shape becomes (0, 7).

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


def summary(annotations: dict, precision: np.ndarray, ignored: Sequence[bool]) -> dict:
    """What :func:`score` returns.

    :param precision: (thresholds .50:.95, levels of recall, classes, areas: all, small, medium, large), 0..1, -1 where
        there is no object to find.
    :param ignored: whether each annotation need not be found.
    """
    counts = dict.fromkeys((category["id"] for category in annotations["categories"]), 0)
    for record, passed in zip(annotations["annotations"], ignored, strict=True):
        counts[record["category_id"]] += not passed
    per_class = {
        name: {"objects": counts[category["id"]]} | _figures(precision[:, :, row : row + 1])
        for row, (name, category) in enumerate(zip(_names(annotations), annotations["categories"], strict=True))
    }
    return _figures(precision) | {"per_class": per_class}


def write_per_class(path: str | Path, per_class: dict[str, dict]) -> None:
    """The figures of each class as CSV, one row per class; an undefined figure is an empty field.

    :param per_class: as :func:`score` returns it.
    """
    rows = ({"class": name} | figures for name, figures in per_class.items())
    files.write_csv(path, ["class", "objects", *METRICS], rows)


def _names(annotations: dict) -> list[str]:
    """Names of the classes, with their original ids if two share a name."""
    names = [category["name"] for category in annotations["categories"]]
    if len(set(names)) == len(names):
        return names
    return [f"{category['name']} ({category['original_id']})" for category in annotations["categories"]]


def _figures(precision: np.ndarray) -> dict[str, float | None]:
    """:data:`METRICS` from (thresholds, levels of recall, classes, areas)."""
    parts = [precision[..., 0], precision[0, ..., 0], precision[5, ..., 0], *(precision[..., i] for i in (1, 2, 3))]
    return {name: _percent(part) for name, part in zip(METRICS, parts, strict=True)}


def _percent(precision: np.ndarray) -> float | None:
    """Mean in percent, without the -1 of what has no object to find; None if nothing has."""
    known = precision[precision > -1]
    return float(known.mean() * 100) if known.size else None


def _nothing(truth: COCO) -> COCO:
    """The result of a detector that found nothing; ``loadRes`` refuses an empty one."""
    results = COCO()
    results.dataset = {**truth.dataset, "annotations": []}
    results.createIndex()
    return results

"""The slow, obvious formula beside each fast one: loops, no vectors, nothing shared with the code under test."""

import numpy as np


def _iou_xywh(a, b, crowd):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] if crowd else a[2] * a[3] + b[2] * b[3] - shared)


def _one_average_precision(objects, detections, threshold, low, high, max_detections):
    """AP of one class at one IoU threshold and area range; None if there is nothing to find."""

    def ignored(thing):
        return thing["iscrowd"] or thing["difficult"] or not low <= thing["area"] <= high

    count = sum(not ignored(thing) for thing in objects)
    if count == 0:
        return None
    verdicts = []  # (score, right?) of the detections that count
    for image in {detection["image_id"] for detection in detections}:
        here = [detection for detection in detections if detection["image_id"] == image]
        here = sorted(here, key=lambda detection: -detection["score"])[:max_detections]
        free = [thing for thing in objects if thing["image_id"] == image]
        for detection in here:
            best = None
            for want_ignored in (False, True):
                for thing in free:
                    iou = _iou_xywh(detection["bbox"], thing["bbox"], thing["iscrowd"])
                    if bool(ignored(thing)) == want_ignored and iou >= threshold and (best is None or iou > best[0]):
                        best = (iou, thing)
                if best:
                    break
            if best is None:
                if low <= detection["bbox"][2] * detection["bbox"][3] <= high:
                    verdicts.append((detection["score"], False))
                continue
            if not best[1]["iscrowd"]:
                free = [thing for thing in free if thing is not best[1]]
            if not ignored(best[1]):
                verdicts.append((detection["score"], True))
    verdicts.sort(reverse=True)
    curve, right = [], 0
    for seen, (_, hit) in enumerate(verdicts, 1):
        right += hit
        curve.append((right / count, right / seen))
    # COCO's recall levels as it computes them: k / 100 differs in the last digit, and a recall may equal one.
    levels = np.linspace(0, 1, 101)
    return sum(max((p for r, p in curve if r >= level), default=0.0) for level in levels) / len(levels)


def average_precision_oracle(annotations, detections, max_detections=100):
    """COCO's six figures in percent, and the AP of each class, None where there is nothing to find.

    :param detections: list of ``{"image_id", "category_id", "bbox": [x, y, w, h], "score"}`` without equal scores.
    """
    ranges = {"all": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}
    thresholds = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    table = {}
    for category in annotations["categories"]:
        objects = [a for a in annotations["annotations"] if a["category_id"] == category["id"]]
        mine = [d for d in detections if d["category_id"] == category["id"]]
        for size, (low, high) in ranges.items():
            for t in thresholds:
                ap = _one_average_precision(objects, mine, t, low, high, max_detections)
                table[category["name"], size, t] = ap

    def mean(select):
        values = [ap for key, ap in table.items() if ap is not None and select(*key)]
        return 100 * sum(values) / len(values) if values else None

    figures = {
        "AP": mean(lambda name, size, t: size == "all"),
        "AP50": mean(lambda name, size, t: size == "all" and t == 0.5),
        "AP75": mean(lambda name, size, t: size == "all" and t == 0.75),
    }
    for size in "sml":
        figures[f"AP{size}"] = mean(lambda name, at, t, size=size: at == size)
    names = [category["name"] for category in annotations["categories"]]
    figures["per_class"] = {n: mean(lambda name, size, t, n=n: name == n and size == "all") for n in names}
    return figures

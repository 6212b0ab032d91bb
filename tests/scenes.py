"""Objects and detections to be scored."""

import numpy as np

from proseco.evaluation.coco_ap import METRICS

FIGURES = list(METRICS)


def figures(result):
    return [np.nan if result[name] is None else result[name] for name in FIGURES]


def scene(seed, *, images=7, classes=5, crowds=True, difficult=True):
    """Objects of all sizes, and detections near them and elsewhere. The last class has none, the last image neither."""
    rng = np.random.default_rng(seed)
    records, rows = [], []
    for image in range(1, images):
        for _ in range(rng.integers(3, 9)):
            category = int(rng.integers(classes - 1))
            w, h = np.exp(rng.uniform(2.3, 5.3, 2))
            x, y = rng.uniform(0, 300, 2)
            crowd = int(crowds and rng.random() < 0.15)
            hard = int(difficult and not crowd and rng.random() < 0.25)
            records.append(
                {"id": len(records) + 1, "image_id": image, "category_id": category, "bbox": [x, y, w, h]}
                | {"area": w * h * rng.uniform(0.5, 1), "iscrowd": crowd, "difficult": hard}
            )
            for _ in range(rng.integers(0, 5)):
                s = rng.uniform(0.01, 0.25)
                near = [x + s * w * rng.normal(), y + s * h * rng.normal()]
                size = [w * np.exp(s * rng.normal()), h * np.exp(s * rng.normal())]
                rows.append([image, *near, *size, rng.random(), category])
    for image in range(1, images + 1):
        for _ in range(4):
            box = [*rng.uniform(0, 300, 2), *np.exp(rng.uniform(2.3, 5.3, 2))]
            rows.append([image, *box, rng.random(), rng.integers(classes)])
    annotations = {
        "images": [
            {"id": i, "key": str(i), "file_name": f"{i}.jpg", "width": 500, "height": 470} for i in range(1, images + 1)
        ],
        "annotations": records,
        "categories": [{"id": c, "name": f"class{c}", "original_id": c + 3} for c in range(classes)],
    }
    return annotations, np.array(rows)


def as_records(rows):
    return [
        {"image_id": int(r[0]), "bbox": r[1:5].tolist(), "score": float(r[5]), "category_id": int(r[6])} for r in rows
    ]


def odd_scenes():
    """Scenes of crowds, difficult objects, both or neither; ties of scores and of overlaps; over 100 boxes an image."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sizes = {"images": int(rng.integers(3, 9)), "classes": int(rng.integers(2, 6))}
        annotations, rows = scene(seed, **sizes, crowds=seed % 2 == 0, difficult=seed % 3 > 0)
        if seed % 4 == 0:
            rows = np.concatenate([rows, rows[:60]])  # equal boxes and, rounded, equal scores
            rows[:, 5] = rows[:, 5].round(1)
        if seed % 5 == 0:
            rows[:, 1:5] = rows[:, 1:5].round(-1) + 1
            for record in annotations["annotations"]:
                record["bbox"] = [float(round(value, -1) + 1) for value in record["bbox"]]
        if seed % 7 == 0:
            rows = np.concatenate([rows] * 9)
            rows[:, 1:3] += rng.normal(0, 3, (len(rows), 2))
            rows[:, 6] = np.where(rng.random(len(rows)) < 0.8, 0, rows[:, 6])
        yield annotations, rows, (100, 100, 2, 7)[seed % 4]


def box(image, x, y, w, h, points, category=0):
    return [image, x, y, w, h, points, category]


def one_object(**changes):
    """An image of one 60 x 40 object, and one without objects."""
    record = {"id": 1, "image_id": 1, "category_id": 0, "bbox": [10.0, 20.0, 60.0, 40.0], "area": 2400.0}
    return {
        "images": [{"id": i, "key": str(i), "file_name": f"{i}.jpg", "width": 200, "height": 100} for i in (1, 2)],
        "annotations": [{**record, "iscrowd": 0, "difficult": 0, **changes}],
        "categories": [{"id": 0, "name": "cat", "original_id": 17}],
    }


def two_objects(**changes):
    annotations = one_object()
    second = {**annotations["annotations"][0], "id": 2, "bbox": [110.0, 20.0, 60.0, 40.0], **changes}
    annotations["annotations"].append(second)
    return annotations

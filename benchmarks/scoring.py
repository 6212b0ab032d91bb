"""Our scoring, by faster-coco-eval, against pycocotools, and by VOC's rule, on the same synthetic detections.

    python -m benchmarks.scoring [--images 5000] [--rounds 3]

As large as COCO's val2017 by default: 5,000 images of some 7 objects and 100 detections each, 80 classes. One process;
from arrays to figures, each in turn. The last line has pycocotools' CPU time divided by ours, median over the rounds,
the largest difference of any of the six figures, in percent points, and our CPU time by VOC's rule divided by that by
COCO's.
"""

import contextlib
import io
import time

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from proseco.base import cli
from proseco.base.errors import InputError
from proseco.evaluation import coco_ap, voc_ap

CLASSES, OBJECTS, DETECTIONS = 80, 7.4, 100


def main(*, images: int = 5000, rounds: int = 3) -> None:
    """Time all on equal input."""
    if images < 1 or rounds < 1:
        raise InputError(f"--images is {images} and --rounds {rounds}; both must be at least 1")
    annotations, detections = synthetic(images)
    print(f"{images} images, {len(annotations['annotations'])} objects, {len(detections)} detections")
    ratios, vocs, difference = [], [], 0.0
    for _ in range(rounds):
        start = time.process_time()
        ours = coco_ap.score(annotations, detections)
        middle = time.process_time()
        theirs = pycocotools(annotations, detections)
        end = time.process_time()
        voc_ap.score(annotations, detections)
        voc = time.process_time() - end
        ratios.append((end - middle) / (middle - start))
        vocs.append(voc / (middle - start))
        print(
            f"ours {middle - start:.1f} s, pycocotools {end - middle:.1f} s, ratio {ratios[-1]:.1f}; VOC's {voc:.1f} s",
            flush=True,
        )
        pairs = [(ours[name], value) for name, value in theirs.items() if ours[name] is not None]
        difference = max(difference, *(abs(a - b) for a, b in pairs))
    print(f"scoring: speedup {np.median(ratios):.1f} difference {difference:.1e} voc {np.median(vocs):.2f}")


def synthetic(images: int) -> tuple[dict, np.ndarray]:
    """Objects of a few classes an image, and detections: some near an object, the rest anywhere."""
    rng = np.random.default_rng(0)
    records, rows = [], []
    for image in range(1, images + 1):
        classes = rng.choice(CLASSES, size=4, replace=False)
        count = max(rng.poisson(OBJECTS), 1)
        boxes = np.concatenate([rng.uniform(0, 400, (count, 2)), np.exp(rng.uniform(2.3, 5.5, (count, 2)))], 1)
        kinds = rng.choice(classes[:3], size=count)
        for box, kind in zip(boxes.tolist(), kinds.tolist(), strict=True):
            records.append({"id": len(records) + 1, "image_id": image, "category_id": kind, "bbox": box})
            area = 0.6 * box[2] * box[3]
            records[-1] |= {"area": area, "iscrowd": int(rng.random() < 0.012), "difficult": 0}
        near = rng.integers(count, size=DETECTIONS)
        found = np.empty((DETECTIONS, 7))
        found[:, 0], found[:, 5] = image, rng.random(DETECTIONS)
        found[:, 1:5] = boxes[near] * np.exp(0.1 * rng.normal(size=(DETECTIONS, 4)))
        found[:, 6] = np.where(rng.random(DETECTIONS) < 0.7, kinds[near], rng.choice(classes, size=DETECTIONS))
        anywhere = rng.random(DETECTIONS) < 0.6
        found[anywhere, 1:3] = rng.uniform(0, 400, (int(anywhere.sum()), 2))
        rows.append(found)
    listed = [{"id": number, "width": 640, "height": 480} for number in range(1, images + 1)]
    categories = [{"id": number, "name": f"class {number}", "original_id": number} for number in range(CLASSES)]
    return {"images": listed, "annotations": records, "categories": categories}, np.concatenate(rows)


def pycocotools(annotations: dict, detections: np.ndarray) -> dict[str, float]:
    """The six figures in percent; those that are undefined are -100."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {"info": {}, **annotations}
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(coco_ap.METRICS, (100 * evaluation.stats[:6]).tolist(), strict=True))


if __name__ == "__main__":
    cli.run(main)

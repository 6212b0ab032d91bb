"""The slow, obvious formula beside each fast one: loops, no vectors, nothing shared with the code under test."""

import itertools

import numpy as np


def _iou_xywh(a, b, crowd):
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] if crowd else a[2] * a[3] + b[2] * b[3] - shared)


def _one_average_precision(objects, detections, threshold, low, high, max_detections, recall_points):
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
    levels = np.linspace(0, 1, 101)[:: 100 // (recall_points - 1)]
    return sum(max((p for r, p in curve if r >= level), default=0.0) for level in levels) / len(levels)


def _one_voc_average_precision(objects, detections, threshold, low, high):
    """As above, by VOC 2007's rule: the object of highest IoU or none."""

    def difficult(thing):
        return thing["iscrowd"] or thing["difficult"] or not low <= thing["area"] <= high

    count = sum(not difficult(thing) for thing in objects)
    if count == 0:
        return None
    taken, right, wrong, curve = [], 0, 0, []
    for detection in sorted(detections, key=lambda detection: (-detection["score"], detection["image_id"])):
        best, highest = None, 0
        for thing in objects:
            if thing["image_id"] == detection["image_id"]:
                iou = _iou_xywh(detection["bbox"], thing["bbox"], crowd=False)
                if iou > highest:
                    best, highest = thing, iou
        if highest >= threshold and difficult(best):
            continue
        if highest >= threshold and best["id"] not in taken:
            taken.append(best["id"])
            right += 1
        elif low <= detection["bbox"][2] * detection["bbox"][3] <= high:
            wrong += 1
        if right + wrong:
            curve.append((right, right / (right + wrong)))
    return sum(max((p for found, p in curve if 10 * found >= tenth * count), default=0) for tenth in range(11)) / 11


def voc_average_precision_oracle(annotations, detections):
    """As :func:`average_precision_oracle`, by VOC 2007's rule. Scores may be equal."""
    return _figures(annotations, detections, _one_voc_average_precision)


def average_precision_oracle(annotations, detections, max_detections=100, recall_points=101):
    """COCO's six figures in percent, and the AP of each class, None where there is nothing to find.

    :param detections: list of ``{"image_id", "category_id", "bbox": [x, y, w, h], "score"}`` without equal scores.
    """
    return _figures(
        annotations, detections, lambda *given: _one_average_precision(*given, max_detections, recall_points)
    )


def _figures(annotations, detections, average_precision):
    ranges = {"all": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}
    thresholds = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    table = {}
    for category in annotations["categories"]:
        objects = [a for a in annotations["annotations"] if a["category_id"] == category["id"]]
        mine = [d for d in detections if d["category_id"] == category["id"]]
        for size, (low, high) in ranges.items():
            for t in thresholds:
                table[category["name"], size, t] = average_precision(objects, mine, t, low, high)

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


def corners_oracle(box):
    """cxcywh -> xyxy."""
    x, y, w, h = (float(v) for v in box)
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def _side(low, high):
    return max(high - low, 0.0)


def iou_oracle(a, b):
    """IoU of two boxes, xyxy."""
    shared = _side(max(a[0], b[0]), min(a[2], b[2])) * _side(max(a[1], b[1]), min(a[3], b[3]))
    union = _side(a[0], a[2]) * _side(a[1], a[3]) + _side(b[0], b[2]) * _side(b[1], b[3]) - shared
    return shared / union if union else 0.0


def giou_oracle(a, b):
    """IoU minus the share of the hull that neither box covers (Rezatofighi et al. 2019), xyxy."""
    shared = _side(max(a[0], b[0]), min(a[2], b[2])) * _side(max(a[1], b[1]), min(a[3], b[3]))
    union = _side(a[0], a[2]) * _side(a[1], a[3]) + _side(b[0], b[2]) * _side(b[1], b[3]) - shared
    hull = _side(min(a[0], b[0]), max(a[2], b[2])) * _side(min(a[1], b[1]), max(a[3], b[3]))
    return iou_oracle(a, b) - ((hull - union) / hull if hull else 0.0)


def _similarity(a, b, tau):
    return np.exp(sum(float(x) * float(y) for x, y in zip(a, b, strict=True)) / tau)


def _positive(boxes, i, j, m, delta):
    """The indicator of eq. 9; at delta = 1 the anchor alone (docs/method.md)."""
    if delta == 1:
        return j == m
    return iou_oracle(corners_oracle(boxes[i][j]), corners_oracle(boxes[i][m])) >= delta


def locsce_oracle(
    z, z_hat, boxes, sigma, *, tau, tau_t, lambda_sce, delta, relation_mask="self", normalize_target=False
):
    """Eq. 6-10 as printed, over (i, n, j, m).

    :param z: (B, N, D); ``z_hat`` (B, N, D) in the student's own order; ``boxes`` (B, N, 4) cxcywh.
    :param sigma: (B, N): the student's prediction for each of the teacher's proposals.
    """
    pairs = [(n, m) for n in range(len(z)) for m in range(len(z[0]))]
    total = 0.0
    for i, j in pairs:
        related = {}
        for n, m in pairs:
            counts = (n, m) != (i, j) if relation_mask == "self" else n != i and m != j
            related[n, m] = _similarity(z[i][j], z[n][m], tau_t) if counts else 0.0
        below = sum(related.values())
        scale = sum(_similarity(z[i][j], z_hat[n][m], tau) for n, m in pairs)
        target = {}
        for n, m in pairs:
            positive = n == i and _positive(boxes, i, j, m, delta)
            relation = related[n, m] / below if below else 0.0
            target[n, m] = lambda_sce * positive + (1 - lambda_sce) * relation
        divisor = sum(target.values()) if normalize_target else 1.0
        for n, m in pairs:
            p = _similarity(z[i][j], z_hat[n][sigma[n][m]], tau) / scale
            total -= target[n, m] / divisor * np.log(p)
    return total / len(pairs)


def locnce_oracle(z, z_hat, boxes, sigma, *, tau, delta):
    """Eq. 12; with delta = 1 eq. 11."""
    pairs = [(n, m) for n in range(len(z)) for m in range(len(z[0]))]
    total = 0.0
    for i, j in pairs:
        scale = sum(_similarity(z[i][j], z_hat[n][m], tau) for n, m in pairs)
        for m in range(len(z[0])):
            if _positive(boxes, i, j, m, delta):
                total -= np.log(_similarity(z[i][j], z_hat[i][sigma[i][m]], tau) / scale)
    return total / len(pairs)


def assignment_oracle(cost):
    """Least total cost of pairing rows with columns, by trying every way: (cost, [(row, column)] sorted by row)."""
    cost = np.asarray(cost, dtype=float)
    rows, columns = cost.shape
    turned = rows > columns
    table = cost.T if turned else cost
    ways = itertools.permutations(range(table.shape[1]), table.shape[0])
    best = min(ways, key=lambda way: sum(table[i, j] for i, j in enumerate(way)))
    pairs = sorted((j, i) if turned else (i, j) for i, j in enumerate(best))
    return sum(cost[i, j] for i, j in pairs), pairs


def box_cost_oracle(a, b, coord, giou):
    """coord * L1 + giou * (1 - GIoU) of two boxes, cxcywh (eq. 4)."""
    l1 = sum(abs(float(x) - float(y)) for x, y in zip(a, b, strict=True))
    return coord * l1 + giou * (1 - giou_oracle(corners_oracle(a), corners_oracle(b)))


def proposal_cost_oracle(z, z_hat, b, b_hat, sim, coord, giou):
    """Eq. 2 for a proposal and a prediction; the similarity lowers the cost (docs/method.md)."""
    dot, square, other = (
        sum(float(x) * float(y) for x, y in zip(*pair, strict=True)) for pair in ((z, z_hat), (z, z), (z_hat, z_hat))
    )
    return box_cost_oracle(b, b_hat, coord, giou) - sim * dot / np.sqrt(square * other)


def proseco_oracle(teacher, student, drawn, weights, contrast, layers):
    """The terms of eq. 5, of all images, from the outputs of both networks.

    :param teacher: embeddings (layers, B, N, D), boxes (layers, B, N, 4) cxcywh; ``student`` likewise.
    :param drawn: per image its Selective Search boxes.
    :param weights: ``contrast``, ``sim``, ``coord`` and ``giou``.
    :param contrast: (z, z_hat, boxes, sigma) -> eq. 10; of the layers ``layers``.
    """
    (z, b), (z_hat, b_hat) = teacher, student
    terms = {"contrast": 0.0, "coord": 0.0, "giou": 0.0}
    for layer in layers:
        sigma = []
        for image in range(len(z[layer])):
            proposals = list(zip(z[layer][image], b[layer][image], strict=True))
            predictions = list(zip(z_hat[layer][image], b_hat[layer][image], strict=True))
            cost = [
                [
                    proposal_cost_oracle(u, v, p, q, weights["sim"], weights["coord"], weights["giou"])
                    for v, q in predictions
                ]
                for u, p in proposals
            ]
            sigma.append([prediction for _, prediction in assignment_oracle(cost)[1]])
        terms["contrast"] += weights["contrast"] * contrast(z[layer], z_hat[layer], b[layer], sigma)
    boxes = sum(len(wanted) for wanted in drawn)
    for layer in b_hat:
        for predicted, wanted in zip(layer, drawn, strict=True):
            cost = np.zeros((len(wanted), len(predicted)))
            for j, k in np.ndindex(cost.shape):
                cost[j, k] = box_cost_oracle(wanted[j], predicted[k], weights["coord"], weights["giou"])
            for j, k in assignment_oracle(cost)[1]:
                terms["coord"] += box_cost_oracle(wanted[j], predicted[k], weights["coord"], 0) / boxes
                terms["giou"] += box_cost_oracle(wanted[j], predicted[k], 0, weights["giou"]) / boxes
    return terms


def focal_oracle(logit, target, alpha=0.25):
    """Sigmoid focal loss with gamma 2 of one number (Lin et al. 2017)."""
    p = 1 / (1 + np.exp(-float(logit)))
    return -alpha * (1 - p) ** 2 * np.log(p) if target else -(1 - alpha) * p**2 * np.log(1 - p)


def set_matching_oracle(logits, boxes, targets, weights):
    """Per image the (query, target) pairs of one decoder layer; arguments as of :func:`set_loss_oracle`."""
    found = []
    for image, (labels, wanted) in enumerate(targets):
        cost = np.zeros((len(boxes[image]), len(labels)))
        for q, t in np.ndindex(cost.shape):
            logit = logits[image][q][labels[t]]
            kind = focal_oracle(logit, True) - focal_oracle(logit, False)
            where = box_cost_oracle(boxes[image][q], wanted[t], weights["coord"], weights["giou"])
            cost[q, t] = weights["class"] * kind + where
        found.append(assignment_oracle(cost)[1])
    return found


def set_loss_oracle(logits, boxes, targets, weights):
    """One decoder layer's weighted class, L1 and GIoU terms.

    :param logits: (B, N, C); ``boxes`` (B, N, 4) cxcywh; ``targets`` per image (labels, boxes).
    """
    sums = {"class": 0.0, "coord": 0.0, "giou": 0.0}
    matched = set_matching_oracle(logits, boxes, targets, weights)
    for image, ((labels, wanted), pairs) in enumerate(zip(targets, matched, strict=True)):
        found = {q: labels[t] for q, t in pairs}
        for q in range(len(boxes[image])):
            for c, logit in enumerate(logits[image][q]):
                sums["class"] += weights["class"] * focal_oracle(logit, found.get(q) == c)
        for q, t in pairs:
            sums["coord"] += box_cost_oracle(boxes[image][q], wanted[t], weights["coord"], 0)
            sums["giou"] += box_cost_oracle(boxes[image][q], wanted[t], 0, weights["giou"])
    count = max(sum(len(labels) for labels, _ in targets), 1)
    return {name: total / count for name, total in sums.items()}


def detreg_oracle(logits, boxes, embeddings, drawn, wanted, weights):
    """DETReg's terms: the set loss of every layer, the embeddings' L1 on the last.

    :param logits: (layers, B, N, 1); ``boxes`` (layers, B, N, 4) cxcywh; ``embeddings`` (B, N, C) of the last layer.
    :param drawn: per image its boxes; ``wanted`` per image their embeddings.
    """
    targets = [([0] * len(here), here) for here in drawn]
    each = [set_loss_oracle(*layer, targets, weights) for layer in zip(logits, boxes, strict=True)]
    terms = {name: sum(layer[name] for layer in each) for name in each[0]}
    distances = [
        abs(a - b) / len(wanted[image][t])
        for image, pairs in enumerate(set_matching_oracle(logits[-1], boxes[-1], targets, weights))
        for q, t in pairs
        for a, b in zip(embeddings[image][q], wanted[image][t], strict=True)
    ]
    return terms | {"embed": weights["embed"] * sum(distances) / sum(map(len, drawn))}


def updetr_oracle(logits, boxes, features, drawn, wanted, weights):
    """UP-DETR's terms: set loss and reconstruction, of every layer; arguments as of :func:`detreg_oracle`.

    :param features: (layers, B, N, C), reconstructed.
    """

    def unit(vector):
        return [x / np.sqrt(sum(y * y for y in vector)) for x in vector]

    targets = [([0] * len(here), here) for here in drawn]
    each = [set_loss_oracle(*layer, targets, weights) for layer in zip(logits, boxes, strict=True)]
    terms = {name: sum(layer[name] for layer in each) for name in each[0]}
    distances = [
        (a - b) ** 2
        for layer in range(len(logits))
        for image, pairs in enumerate(set_matching_oracle(logits[layer], boxes[layer], targets, weights))
        for q, t in pairs
        for a, b in zip(unit(features[layer][image][q]), unit(wanted[image][t]), strict=True)
    ]
    return terms | {"feature": weights["feature"] * sum(distances) / sum(map(len, drawn))}


def bilinear_oracle(feature, x, y):
    """Value of a map at a point, zeros outside.

    :param feature: (H, W, D); the centre of pixel (r, c) lies at x = (c + .5) / W, y = (r + .5) / H.
    """
    height, width = feature.shape[:2]
    column, row = x * width - 0.5, y * height - 0.5
    total = np.zeros(feature.shape[2])
    for r in (int(np.floor(row)), int(np.floor(row)) + 1):
        for c in (int(np.floor(column)), int(np.floor(column)) + 1):
            if 0 <= r < height and 0 <= c < width:
                total += (1 - abs(row - r)) * (1 - abs(column - c)) * feature[r, c]
    return total


def sampling_oracle(value, shapes, points, weights):
    """Weighted sum over levels and points, for each image, query and head: (B, Q, D).

    :param value: (B, S, heads, D/heads); ``shapes`` (H, W) a level; ``points`` (B, Q, heads, L, P, 2) x and y in 0..1;
        ``weights`` (B, Q, heads, L, P).
    """
    images, queries, heads, _, count = weights.shape
    out = np.zeros((images, queries, heads, value.shape[-1]))
    for b, q, h in itertools.product(range(images), range(queries), range(heads)):
        start = 0
        for level, (height, width) in enumerate(shapes):
            feature = value[b, start : start + height * width, h].reshape(height, width, -1)
            start += height * width
            for p in range(count):
                x, y = points[b, q, h, level, p]
                out[b, q, h] += weights[b, q, h, level, p] * bilinear_oracle(feature, x, y)
    return out.reshape(images, queries, -1)


def sine_oracle(height, width, channels, temperature=10000.0):
    """Sine embedding of the pixels of an image without padding: (channels, H, W), y first."""
    out = np.zeros((channels, height, width))
    half = channels // 2
    for row, column in itertools.product(range(height), range(width)):
        for first, position in ((0, (row + 0.5) / height), (half, (column + 0.5) / width)):
            for k in range(half):
                angle = 2 * np.pi * position / temperature ** (2 * (k // 2) / half)
                out[first + k, row, column] = np.cos(angle) if k % 2 else np.sin(angle)
    return out

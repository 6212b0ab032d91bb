"""SCRL: where boxes are pooled, the loss in plain loops, and that it learns."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from proseco.data.batch import collate
from proseco.data.sample import Sample
from proseco.methods import scrl
from proseco.nn.backbone import ResNet
from tests import tiny

PLAIN = dict.fromkeys(("jitter_probability", "grayscale_probability", "blur_probability"), 0.0)
VIEWS = {"side": 64, "area": (0.3, 1.0), "boxes": 4, "min_size": 16, "max_iou": 0.5, "first": PLAIN, "second": PLAIN}


def made(ema_rate=0.9):
    torch.manual_seed(0)
    network = ResNet(**tiny.BODY, num_classes=4)
    return scrl.build(network, **VIEWS, projector=(20, 6), ema_rate=ema_rate, steps=50)


def batch(method, count=3):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (70 + 9 * i, 90, 3), dtype=np.uint8) for i in range(count)]
    samples = [Sample(f"k{i}", image, np.zeros((0, 4), np.float32)) for i, image in enumerate(images)]
    return collate([method.transform(sample, np.random.default_rng(i)) for i, sample in enumerate(samples)])


class Places(nn.Module):
    """Instead of a ResNet: the last map tells row and column of its cells."""

    channels = (0, 0, 2)

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(1, 1)

    def stages(self, images):
        rows, columns = torch.meshgrid(*(torch.arange(side // 32.0) for side in images.shape[2:]), indexing="ij")
        return [torch.stack([columns, rows]).expand(len(images), -1, -1, -1)]


def test_boxes_are_pooled_where_they_lie():
    """The mean of the cells under a box, which is that of their places: its centre, in cells of 32 pixels."""
    encoder = scrl._Encoder(Places(), (20, 6))
    encoder.projector = nn.Identity()
    images = torch.zeros(2, 3, 256, 192, dtype=torch.uint8)
    boxes = [torch.tensor([[0.5, 0.25, 1 / 3, 1 / 8], [0.25, 0.5, 1 / 6, 0.5]]), torch.tensor([[0.6, 0.7, 0.4, 0.25]])]
    found = encoder(images, boxes)
    for place, (x, y, _, _) in zip(found.tolist(), torch.cat(boxes).tolist(), strict=True):
        assert place == pytest.approx([x * 6 - 0.5, y * 8 - 0.5], abs=1e-4)


def test_the_loss_is_that_of_plain_loops():
    method = made()
    tiny.stir(method.teacher, 3)
    data = batch(method)
    terms, figures = method.losses(data)
    images = torch.cat([crops.images for crops in data.crops])
    boxes = [b for crops in data.crops for b in crops.boxes]
    p, z = method.student(images, boxes).tolist(), method.teacher(images, boxes).tolist()

    def cosine(a, b):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(x * x for x in b))

    total, count = 0.0, 0
    for image in range(3):
        for box in range(4):
            first, second = image * 4 + box, (3 + image) * 4 + box
            total += 2 - 2 * cosine(p[first], z[second]) + 2 - 2 * cosine(p[second], z[first])
            count += 1
    assert list(terms) == ["distance"] and terms["distance"].item() == pytest.approx(total / count, rel=1e-4)
    assert set(figures) == {"spread", "ema_distance"}


def test_only_the_online_network_is_trained():
    method = made()
    terms, _ = method.losses(batch(method))
    terms["distance"].backward()
    names = [name for name, p in method.student.named_parameters() if p.grad is None]
    assert names == ["encoder.network.fc.weight", "encoder.network.fc.bias"]
    assert all(p.grad is None for p in method.teacher.parameters())


def test_it_is_a_part_of_the_loss_of_all_processes():
    method, data = made(), batch(made())
    whole = method.losses(data)[0]["distance"].item()
    data.global_batch = SimpleNamespace(shares=(3, 5), boxes=0, first=0)
    assert method.losses(data)[0]["distance"].item() == pytest.approx(whole * 3 / 8, rel=1e-5)


def test_it_learns_that_two_views_show_the_same():
    method = made(ema_rate=0.95)
    data = batch(method, 6)
    optimizer = torch.optim.SGD([p for p in method.student.parameters() if p.requires_grad], lr=0.3, momentum=0.9)
    losses = []
    for _ in range(20):
        loss = method.losses(data)[0]["distance"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step()
        losses.append(loss.item())
    assert losses[0] > 3 and losses[-1] < 0.5 * losses[0]
    assert method.losses(data)[1]["spread"] > 0.3


def test_its_options_reach_the_views_and_the_target():
    torch.manual_seed(0)
    inverted = PLAIN | {"solarise_probability": 1.0}
    options = VIEWS | {"area": (0.4, 0.9), "min_size": 20, "max_iou": 0.3, "second": inverted}
    made = scrl.build(ResNet(**tiny.BODY, num_classes=4), **options, projector=(20, 6), ema_rate=0.7, steps=50)
    views = made.transform
    assert (views.side, views.area, views.boxes, views.min_size, views.max_iou) == (64, (0.4, 0.9), 4, 20, 0.3)
    assert views.photometric == (PLAIN, inverted)
    assert made.teacher.keep_rate() == pytest.approx(0.7)

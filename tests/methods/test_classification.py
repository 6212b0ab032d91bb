"""Classification of whole images: the loss by hand, and that it learns."""

import math

import pytest
import torch

from proseco.methods import classification
from proseco.nn.backbone import ResNet, normalise
from tests import tiny


def made(classes=4, smoothing=0.0):
    torch.manual_seed(0)
    return classification.build(ResNet(**tiny.BODY, num_classes=classes), side=48, smoothing=smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_entropy_and_accuracy_by_hand(smoothing):
    method, batch = made(smoothing=smoothing), tiny.batch((1, 1, 1), views=1, classes=4)
    method.student.eval()
    terms, figures = method.losses(batch)
    logits = method.student(normalise(batch.views[0], batch.mask)).tolist()
    total, right = 0.0, 0
    for row, label in zip(logits, torch.cat(batch.labels).tolist(), strict=True):
        norm = math.log(sum(math.exp(x) for x in row))
        for c, x in enumerate(row):
            total -= ((1 - smoothing) * (c == label) + smoothing / 4) * (x - norm)
        right += row.index(max(row)) == label
    assert list(terms) == ["entropy"]
    assert terms["entropy"].item() == pytest.approx(total / 3, rel=1e-4)
    assert figures["accuracy"].item() == pytest.approx(right / 3)


def test_it_learns_and_its_statistics_move():
    method = made(classes=3)
    batch = tiny.batch((1, 1, 1, 1, 1, 1), views=1)
    batch.labels = [torch.tensor([i % 3]) for i in range(6)]
    for i in range(6):  # red, green or blue prevails
        batch.views[0, i, i % 3] |= 128
    network = method.student.train()
    before = network.bn1.running_mean.clone()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(15):
        terms, figures = method.losses(batch)
        optimizer.zero_grad()
        terms["entropy"].backward()
        optimizer.step()
        method.after_step()
    assert figures["accuracy"] == 1
    assert terms["entropy"] < 0.5
    assert not torch.equal(before, network.bn1.running_mean)
    assert method.transform.side == 48
    assert method.transform.area == (0.4, 1.0)


def test_its_options_reach_the_views():
    views = classification.build(ResNet(**tiny.BODY, num_classes=3), side=40, area=(0.6, 0.9)).transform
    assert (views.side, views.area) == (40, (0.6, 0.9))

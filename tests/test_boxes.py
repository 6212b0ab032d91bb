"""Boxes against loops, and the corners where ratios break: no area, nothing in common."""

import pytest
import torch

from proseco import boxes
from tests import oracles


def some(count, seed):
    """xyxy, float64, some of them overlapping."""
    draws = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=draws, dtype=torch.float64) * 5
    return torch.cat([low, low + 0.5 + 4 * torch.rand(count, 2, generator=draws, dtype=torch.float64)], 1)


def test_corners_by_hand():
    assert boxes.cxcywh_to_xyxy(torch.tensor([5.0, 7.0, 4.0, 2.0])).tolist() == [3, 6, 7, 8]
    several = torch.tensor([[[0.5, 0.25, 1.0, 0.5]], [[0.0, 0.75, 0.5, 0.0]]])
    assert boxes.cxcywh_to_xyxy(several).tolist() == [[[0, 0, 1, 0.5]], [[-0.25, 0.75, 0.25, 0.75]]]


def test_x_is_scaled_by_width():
    relative = torch.tensor([[[0.1, 0.2, 0.3, 0.4]], [[0.5, 0.5, 1.0, 1.0]]])
    sizes = torch.tensor([[200.0, 50.0], [10.0, 30.0]])
    assert torch.allclose(
        boxes.scale(relative, sizes[:, None]), torch.tensor([[[20.0, 10, 60, 20]], [[5.0, 15, 10, 30]]])
    )


def test_area_is_of_corners_and_never_negative():
    corners = torch.tensor([[3.0, 6, 7, 8], [7.0, 6, 3, 8], [7.0, 8, 3, 6], [1.0, 1, 1, 5]])
    assert boxes.area(corners).tolist() == [8, 0, 0, 0]


def test_iou_is_the_loops():
    a, b = some(12, 1).view(3, 4, 4), some(15, 2).view(3, 5, 4)
    ours = boxes.iou(a, b)
    assert ours.shape == (3, 4, 5)
    truth = [[[oracles.iou_oracle(p, q) for q in right] for p in left] for left, right in zip(a, b, strict=True)]
    assert torch.allclose(ours, torch.tensor(truth, dtype=torch.float64))
    assert 0 < (ours > 0).sum() < ours.numel()


def test_giou_is_the_loops():
    a, b = some(4, 3), some(5, 4)
    ours = boxes.giou(a[:, None], b[None])
    truth = [[oracles.giou_oracle(p, q) for q in b] for p in a]
    assert torch.allclose(ours, torch.tensor(truth, dtype=torch.float64))
    assert ours.min() < 0 < ours.max()


def test_overlaps_by_hand():
    a, b = torch.tensor([[0.0, 0, 4, 2]]), torch.tensor([[2.0, 1, 6, 3]])
    assert boxes.iou(a, b).item() == pytest.approx(2 / 14)
    assert boxes.giou(a, b).item() == pytest.approx(2 / 14 - 4 / 18)
    assert boxes.iou(a, a).item() == boxes.giou(a, a).item() == 1
    far = torch.tensor([[1000.0, 1000, 1001, 1001]])
    assert -1 <= boxes.giou(a, far).item() < -0.99


def test_boxes_without_area_overlap_nothing_and_have_a_gradient():
    flat = torch.tensor([[1.0, 1, 1, 1], [0.0, 2, 3, 2]], requires_grad=True)
    other = torch.tensor([[1.0, 1, 1, 1], [0.0, 0, 4, 4]])
    assert boxes.iou(flat, other).tolist() == [[0, 0], [0, 0]]
    overlap = boxes.giou(flat, other)
    assert overlap.isfinite().all()
    overlap.sum().backward()
    assert flat.grad.isfinite().all()

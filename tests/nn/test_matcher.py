"""The matching's cost against trying every permutation; the costs against loops."""

import itertools

import numpy as np
import pytest
import torch

from proseco.nn import matcher
from tests import oracles

B, N, K, D = 3, 5, 4, 6


def some_boxes(*shape, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, 4, generator=draws) * 0.5 + 0.1


@pytest.mark.parametrize(("rows", "columns"), [(5, 3), (3, 5), (4, 4), (1, 4), (5, 0)])
def test_assignment_costs_the_least(rows, columns):
    cost = torch.randn(B, rows, columns, generator=torch.Generator().manual_seed(rows))
    pairs = matcher.assign(cost)
    assert len(pairs) == B
    for table, (left, right) in zip(cost, pairs, strict=True):
        assert left.dtype == right.dtype == torch.int64
        assert len(left) == len(set(left.tolist())) == len(set(right.tolist())) == min(rows, columns)
        assert left.tolist() == sorted(left.tolist())
        least = oracles.assignment_oracle(table)[0]
        assert table[left, right].sum().item() == pytest.approx(least, abs=1e-5)


def test_a_square_matching_is_a_permutation_found_again():
    sigma = [torch.randperm(N, generator=torch.Generator().manual_seed(i)) for i in range(B)]
    cost = torch.rand(B, N, N, generator=torch.Generator().manual_seed(0))
    for image, order in enumerate(sigma):
        cost[image, torch.arange(N), order] -= 10
    for order, (rows, columns) in zip(sigma, matcher.assign(cost), strict=True):
        assert rows.tolist() == list(range(N))
        assert columns.tolist() == order.tolist()


def test_padded_columns_are_never_chosen():
    counts = [4, 0, 2]
    cost = torch.rand(B, N, K)
    for image, count in enumerate(counts):
        cost[image, :, count:] = -100.0  # tempting
    cost[1, 0, 0] = float("nan")  # of no one
    for image, (rows, columns) in enumerate(matcher.assign(cost, counts)):
        assert sorted(columns.tolist()) == list(range(counts[image]))
        assert len(rows) == counts[image]


def test_more_boxes_than_queries():
    ours, theirs = some_boxes(1, 3, seed=1), some_boxes(1, 7, seed=2)
    cost = matcher.box_cost(ours, theirs, coord=5, giou=2)
    ((rows, columns),) = matcher.assign(cost, [7])
    assert rows.tolist() == [0, 1, 2]
    best = min(sum(cost[0, i, c] for i, c in enumerate(way)) for way in itertools.permutations(range(7), 3))
    assert cost[0, rows, columns].sum().item() == pytest.approx(float(best), rel=1e-6)


def test_a_cost_that_is_no_number_names_the_image():
    cost = torch.rand(B, N, K)
    cost[2, 3, 1] = float("nan")
    with pytest.raises(FloatingPointError, match=r"image n02_7\.JPEG is not finite"):
        matcher.assign(cost, names=["n01_1.JPEG", "n01_2.JPEG", "n02_7.JPEG"])
    with pytest.raises(FloatingPointError, match="image number 2 of the batch"):
        matcher.assign(cost)


def test_assignment_needs_no_gradient():
    cost = torch.rand(1, 2, 2, requires_grad=True)
    assert not any(part.requires_grad for part in matcher.assign(cost)[0])


def test_box_cost_is_the_loops():
    ours, theirs = some_boxes(2, B, N), some_boxes(B, K, seed=1)  # e.g. two layers against one set
    cost = matcher.box_cost(ours, theirs, coord=5.0, giou=2.0)
    assert cost.shape == (2, B, N, K)
    truth = np.zeros(cost.shape)
    for layer, image, i, j in np.ndindex(truth.shape):
        truth[layer, image, i, j] = oracles.box_cost_oracle(ours[layer, image, i], theirs[image, j], 5.0, 2.0)
    assert np.allclose(cost, truth, atol=1e-5)
    assert matcher.box_cost(ours, theirs[:, :0], coord=5.0, giou=2.0).shape == (2, B, N, 0)


def test_similarity_lowers_the_cost():
    draws = torch.Generator().manual_seed(0)
    a, b = torch.randn(B, N, D, generator=draws), torch.randn(B, K, D, generator=draws)
    a, b = (torch.nn.functional.normalize(x, dim=-1) for x in (a, b))
    cost = matcher.similarity_cost(a, b, sim=2.0)
    for image, i, j in np.ndindex(B, N, K):
        truth = -2 * sum(x * y for x, y in zip(a[image, i].tolist(), b[image, j].tolist(), strict=True))
        assert cost[image, i, j].item() == pytest.approx(truth, abs=1e-5)
    ((_, columns),) = matcher.assign(matcher.similarity_cost(a[:1], a[:1].flip(1), sim=2.0))
    assert columns.tolist() == [4, 3, 2, 1, 0]  # each finds itself


def test_focal_cost_is_the_loops():
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(B, N, 7, generator=draws) * 2
    labels = torch.tensor([[6, 0, 3, 3], [1, 2, 5, 4], [0, 0, 6, 1]])
    cost = matcher.focal_cost(logits, labels, weight=2.0)
    for image, i, j in np.ndindex(B, N, K):
        logit = logits[image, i, labels[image, j]]
        truth = 2 * (oracles.focal_oracle(logit, True) - oracles.focal_oracle(logit, False))
        assert cost[image, i, j].item() == pytest.approx(truth, abs=1e-5)
    extreme = torch.tensor([[[-1e4, 1e4]]])
    assert matcher.focal_cost(extreme, torch.tensor([[0, 1]]), weight=2.0).isfinite().all()


def test_costs_of_half_precision_are_float32():
    ours = some_boxes(1, N).bfloat16()
    assert matcher.box_cost(ours, ours, coord=5, giou=2).dtype == torch.float32
    assert matcher.similarity_cost(ours, ours, sim=2).dtype == torch.float32
    assert matcher.focal_cost(ours, torch.zeros(1, 2, dtype=torch.int64), weight=2).dtype == torch.float32


def test_pad():
    rows = [torch.ones(2, 4), torch.zeros(0, 4), torch.full((3, 4), 2.0)]
    padded = matcher.pad(rows)
    assert padded.shape == (3, 3, 4)
    assert padded.sum((1, 2)).tolist() == [8, 0, 24]
    assert padded[0, 2].eq(0).all()
    assert matcher.pad(rows, 5).shape == (3, 5, 4)
    assert matcher.pad([torch.zeros(0, dtype=torch.int64)] * 2).shape == (2, 0)
    assert matcher.pad([torch.tensor([3, 4]), torch.tensor([5])]).tolist() == [[3, 4], [5, 0]]

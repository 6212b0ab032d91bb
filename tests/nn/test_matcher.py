"""The matching's cost against SciPy's and trying every permutation; the costs against loops."""

import itertools
import math

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import linear_sum_assignment

from proseco.nn import matcher
from tests import oracles

B, N, K, D = 3, 5, 4, 6


def some_boxes(*shape, seed=0):
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, 4, generator=draws) * 0.5 + 0.1


def assign(cost, counts=None, **names):
    """Of a single layer."""
    (pairs,) = matcher.assign(cost[None], counts, **names)
    return pairs


@pytest.mark.parametrize(("rows", "columns"), [(5, 3), (3, 5), (4, 4), (1, 4), (5, 0)])
def test_assignment_costs_the_least(rows, columns):
    cost = torch.randn(B, rows, columns, generator=torch.Generator().manual_seed(rows))
    pairs = assign(cost)
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
    for order, (rows, columns) in zip(sigma, assign(cost), strict=True):
        assert rows.tolist() == list(range(N))
        assert columns.tolist() == order.tolist()


def test_padded_columns_are_never_chosen():
    counts = [4, 0, 2]
    cost = torch.rand(B, N, K)
    for image, count in enumerate(counts):
        cost[image, :, count:] = -100.0  # tempting
    cost[1, 0, 0] = float("nan")  # of no one
    for image, (rows, columns) in enumerate(assign(cost, counts)):
        assert sorted(columns.tolist()) == list(range(counts[image]))
        assert len(rows) == counts[image]


def test_more_boxes_than_queries():
    ours, theirs = some_boxes(1, 3, seed=1), some_boxes(1, 7, seed=2)
    cost = matcher.box_cost(ours, theirs, coord=5, giou=2)
    ((rows, columns),) = assign(cost, [7])
    assert rows.tolist() == [0, 1, 2]
    best = min(sum(cost[0, i, c] for i, c in enumerate(way)) for way in itertools.permutations(range(7), 3))
    assert cost[0, rows, columns].sum().item() == pytest.approx(float(best), rel=1e-6)


MATRICES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(0, 9)).flatmap(
    lambda shape: st.one_of(
        arrays(np.float32, shape, elements=st.floats(-(2.0**99), 2.0**99, width=32)),
        arrays(np.float32, shape, elements=st.integers(-2, 2)),  # ties
        arrays(np.float64, shape, elements=st.floats(-1, 1)),
        arrays(np.float32, shape, elements=st.just(0), fill=st.just(3)),
    )
)


@hypothesis.given(costs=MATRICES, zeros=st.tuples(st.booleans(), st.booleans()), data=st.data())
@hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
def test_the_cost_is_scipys(costs, zeros, data):
    layers, images, _, width = costs.shape
    costs = costs.copy()
    if zeros[0]:
        costs[:, :, 0] = 0
    if zeros[1]:
        costs[..., :1] = 0
    counts = data.draw(st.lists(st.integers(0, width), min_size=images, max_size=images))
    pairs = matcher.assign(torch.from_numpy(costs), counts)
    assert [len(layer) for layer in pairs] == [images] * layers
    for layer, image in np.ndindex(layers, images):
        table = costs[layer, image, :, : counts[image]].astype(np.float64)
        rows, columns = (index.numpy() for index in pairs[layer][image])
        truth = table[linear_sum_assignment(table)]
        assert len(set(rows)) == len(set(columns)) == len(rows) == min(table.shape)
        assert math.fsum(table[rows, columns]) == pytest.approx(
            math.fsum(truth), rel=1e-12, abs=1e-12 * abs(truth).sum()
        )


def test_float32_would_have_decided_by_its_rounding():
    """A rectangular problem in float32 ends in another, dearer assignment at times; ours never does."""
    draws = np.random.default_rng(0)
    for _ in range(30):
        points, others = draws.random(30), draws.random(17)
        cost = np.abs(points[:, None] - others).astype(np.float32)
        ((rows, columns),) = assign(torch.from_numpy(cost)[None])
        truth = cost[linear_sum_assignment(cost.astype(np.float64))]
        assert cost[rows, columns].astype(np.float64).sum() == truth.astype(np.float64).sum()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_cost_that_is_no_number_names_the_image(value):
    costs = torch.rand(2, B, N, K)
    costs[1, 2, 3, 1] = value
    with pytest.raises(FloatingPointError, match=r"image n02_7\.JPEG is not finite"):
        matcher.assign(costs, names=["n01_1.JPEG", "n01_2.JPEG", "n02_7.JPEG"])
    with pytest.raises(FloatingPointError, match="image number 2 of the batch"):
        matcher.assign(costs, [2, K, 2])
    costs[1, 2] = value  # every one
    with pytest.raises(FloatingPointError, match="image number 2 of the batch"):
        matcher.assign(costs)


def test_assignment_needs_no_gradient():
    cost = torch.rand(1, 2, 2, requires_grad=True)
    assert not any(part.requires_grad for part in assign(cost)[0])


def test_box_cost_is_the_loops():
    ours, theirs = some_boxes(2, B, N), some_boxes(B, K, seed=1)  # e.g. two layers against one set
    cost = matcher.box_cost(ours, theirs, coord=5.0, giou=2.0)
    assert cost.shape == (2, B, N, K)
    truth = np.zeros(cost.shape)
    for layer, image, i, j in np.ndindex(truth.shape):
        truth[layer, image, i, j] = oracles.box_cost_oracle(ours[layer, image, i], theirs[image, j], 5.0, 2.0)
    assert np.allclose(cost, truth, atol=1e-5)
    assert matcher.box_cost(ours, theirs[:, :0], coord=5.0, giou=2.0).shape == (2, B, N, 0)


@pytest.mark.parametrize("boxes", [0, K])
def test_a_gpus_distances_are_those_of_a_cpu(boxes):
    ours, theirs = some_boxes(2, B, N), some_boxes(B, boxes, seed=1)
    assert torch.allclose(matcher._pairwise_l1(ours, theirs), torch.cdist(ours, theirs, p=1), atol=1e-6)


def test_similarity_lowers_the_cost():
    draws = torch.Generator().manual_seed(0)
    a, b = torch.randn(B, N, D, generator=draws), torch.randn(B, K, D, generator=draws)
    a, b = (torch.nn.functional.normalize(x, dim=-1) for x in (a, b))
    cost = matcher.similarity_cost(a, b, sim=2.0)
    for image, i, j in np.ndindex(B, N, K):
        truth = -2 * sum(x * y for x, y in zip(a[image, i].tolist(), b[image, j].tolist(), strict=True))
        assert cost[image, i, j].item() == pytest.approx(truth, abs=1e-5)
    ((_, columns),) = assign(matcher.similarity_cost(a[:1], a[:1].flip(1), sim=2.0))
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


def test_costs_of_float64_stay():
    ours, theirs = some_boxes(N).double(), some_boxes(K, seed=1).double()
    cost = matcher.box_cost(ours, theirs, coord=5.0, giou=2.0)
    for i, j in np.ndindex(N, K):
        assert cost[i, j].item() == pytest.approx(oracles.box_cost_oracle(ours[i], theirs[j], 5.0, 2.0), rel=1e-12)
    assert matcher.similarity_cost(ours, theirs, sim=2).dtype == torch.float64
    assert matcher.focal_cost(ours, torch.zeros(2, dtype=torch.int64), weight=2).dtype == torch.float64


def test_autocast_does_not_round_the_costs():
    ours, theirs = some_boxes(B, N), some_boxes(B, K, seed=1)
    plain = matcher.similarity_cost(ours, theirs, sim=2), matcher.box_cost(ours, theirs, coord=5, giou=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = matcher.similarity_cost(ours, theirs, sim=2), matcher.box_cost(ours, theirs, coord=5, giou=2)
    assert all(torch.equal(a, b) for a, b in zip(plain, rough, strict=True))


def test_flatten():
    pairs = [(torch.tensor([1, 4]), torch.tensor([1, 0])), (torch.tensor([], dtype=torch.int64),) * 2]
    pairs.append((torch.tensor([2]), torch.tensor([0])))
    rows, columns = matcher.flatten(pairs, 5, [2, 0, 3], torch.device("cpu"))
    assert rows.tolist() == [1, 4, 12]
    assert columns.tolist() == [1, 0, 2]

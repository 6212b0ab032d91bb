"""The compiled sampling of deformable attention against the plain form: values and gradients, also where it is hard."""

import math

import pytest
import torch

from proseco.nn._sampling import sample
from proseco.nn.deformable_attention import sample_levels, sample_levels_plain

HEADS, P, WIDTH = 3, 4, 5


def given(shapes, *, kind=torch.float64, low=-0.2, high=1.2, images=2, queries=7, seed=0):
    draws = torch.Generator().manual_seed(seed)
    pixels, levels = sum(h * w for h, w in shapes), len(shapes)
    value = torch.randn(images, pixels, HEADS, WIDTH, generator=draws, dtype=kind)
    points = torch.rand(images, queries, HEADS, levels, P, 2, generator=draws, dtype=kind) * (high - low) + low
    weights = torch.rand(images, queries, HEADS, levels, P, generator=draws, dtype=kind)
    return [value.requires_grad_(), points.requires_grad_(), weights.requires_grad_()]


def both(shapes, tensors):
    """(result, its gradients) of either form, for one random gradient from above."""
    found = []
    for form in (sample, sample_levels_plain):
        value, points, weights = tensors
        out = form(value, shapes, points, weights)
        above = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=out.dtype)
        found.append([out.detach(), *torch.autograd.grad(out, tensors, above)])
    return found


def equal(shapes, tensors, tolerance):
    for ours, plain in zip(*both(shapes, tensors), strict=True):
        assert (ours - plain).abs().max() <= tolerance * plain.abs().max().clamp(min=1)


@pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    "shapes",
    [
        pytest.param([(4, 7), (3, 5)], id="levels that are not square"),
        pytest.param([(1, 1)], id="one pixel"),
        pytest.param([(5, 1), (1, 6), (1, 1), (2, 3)], id="lines and pixels"),
    ],
)
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.5, 1.5), (-40, 40)])
def test_values_and_gradients_are_those_of_the_plain_form(shapes, low, high, kind, tolerance):
    equal(shapes, given(shapes, low=low, high=high, kind=kind), tolerance)


def test_points_on_centres_edges_and_corners():
    """Where a bilinear sample has kinks; powers of two, so that both forms place the points exactly."""
    shapes = [(4, 8), (2, 2)]
    value, points, weights = given(shapes, queries=64)
    steps = torch.arange(-2, 19, dtype=points.dtype) / 16  # centres and edges of both levels, and beyond
    draws = torch.randint(len(steps), points.shape, generator=torch.Generator().manual_seed(3))
    equal(shapes, [value, steps[draws].requires_grad_(), weights], 1e-12)


def test_all_padding_gives_nothing_and_sends_no_gradient_to_the_points():
    shapes = [(4, 7), (3, 5)]
    value, points, weights = given(shapes)
    out, of_value, of_points, of_weights = both(shapes, [torch.zeros_like(value).requires_grad_(), points, weights])[0]
    assert not out.any()
    assert not of_points.any()
    assert not of_weights.any()
    assert of_value.any()


def test_gradients_are_those_of_small_moves():
    shapes = [(4, 7), (3, 5)]
    value, points, weights = given(shapes, images=1, queries=3, seed=5)
    assert torch.autograd.gradcheck(lambda v, p, w: sample(v, shapes, p, w), (value, points, weights))


def test_a_point_that_is_nan_shows():
    shapes = [(4, 7), (3, 5)]
    value, points, weights = (tensor.detach() for tensor in given(shapes))
    before = sample(value, shapes, points, weights)
    points[1, 2, 0, 1, 3, 0] = math.nan
    out = sample(value, shapes, points, weights)
    assert out[1, 2, :WIDTH].isnan().all()
    assert out.isnan().sum() == WIDTH
    assert torch.equal(out.nan_to_num(0), before.masked_fill(out.isnan(), 0))


@pytest.mark.parametrize("far", [math.inf, -math.inf, 1e30])
def test_a_point_far_outside_contributes_nothing(far):
    shapes = [(4, 7), (3, 5)]
    value, points, weights = (tensor.detach() for tensor in given(shapes, low=0.3, high=0.7))
    points[:, :, :, 1, 2] = far
    without = weights.clone()
    without[:, :, :, 1, 2] = 0
    inside = points.clone()
    inside[:, :, :, 1, 2] = 0.5
    expected = sample(value, shapes, inside, without)
    assert torch.equal(sample(value, shapes, points, weights), expected)


def test_the_bits_do_not_depend_on_the_number_of_threads():
    shapes = [(9, 7), (3, 5)]
    tensors = given(shapes, kind=torch.float32, images=3, queries=50)
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 4, 50):
            torch.set_num_threads(count)
            found.append(both(shapes, tensors)[0])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_it_is_what_a_detector_on_a_cpu_uses():
    shapes = [(4, 7), (3, 5)]
    value, points, weights = given(shapes, kind=torch.float32)
    out = sample_levels(value, shapes, points, weights)
    assert torch.equal(out, sample(value, shapes, points, weights))
    assert not torch.equal(out, sample_levels_plain(value, shapes, points, weights))  # equal but for rounding
    half = sample_levels(value.bfloat16(), shapes, points, weights.bfloat16())
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, sample(value.bfloat16().float(), shapes, points, weights.bfloat16().float()).bfloat16())


def test_no_second_derivative():
    shapes = [(4, 7)]
    tensors = given(shapes)
    (first,) = torch.autograd.grad(
        sample(tensors[0], shapes, *tensors[1:]).square().sum(), tensors[1], create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_no_image_and_no_query():
    shapes = [(4, 7)]
    for images, queries in ((0, 3), (2, 0)):
        out, of_value, of_points, of_weights = both(shapes, given(shapes, images=images, queries=queries))[0]
        assert out.shape == (images, queries, HEADS * WIDTH) and not of_value.any()
        assert of_points.shape == (images, queries, HEADS, 1, P, 2) and of_weights.shape == of_points.shape[:-1]

"""Deformable attention: values at points known by hand, then the whole module against loops."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from proseco.nn.deformable_attention import DeformableAttention
from proseco.nn.sampling import sample_levels
from tests.oracles import sampling_oracle
from tests.tiny import stir

SHAPES = [(4, 7), (3, 5)]  # neither square nor of one aspect
S = 4 * 7 + 3 * 5
B, Q, HEADS, P, D = 2, 5, 3, 4, 12


def ramp():
    """(1, S, 1, 2): each pixel holds the x and y of its centre."""
    levels = []
    for h, w in SHAPES:
        y, x = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij")
        levels.append(torch.stack([x, y], -1).view(h * w, 2))
    return torch.cat(levels)[None, :, None]


@pytest.mark.parametrize("level", [0, 1])
def test_a_ramp_gives_the_point_itself(level):
    where = torch.tensor([[0.3, 0.6], [0.5, 0.5], [0.8, 0.25], [0.15, 0.8]])
    points = where.view(1, 4, 1, 1, 1, 2).expand(-1, -1, -1, 2, -1, -1)
    weights = torch.zeros(1, 4, 1, 2, 1)
    weights[:, :, :, level] = 1
    assert torch.allclose(sample_levels(ramp(), SHAPES, points, weights)[0], where, atol=1e-6)


def test_outside_is_zero_and_the_edge_fades():
    value = torch.ones(1, S, 1, 2)
    where = torch.tensor([[-0.5, 0.5], [0.5, 1.5], [2.0, 2.0], [0.0, 0.5], [0.5, 1.0], [0.5, 0.5]])
    points = where.view(1, 6, 1, 1, 1, 2).expand(-1, -1, -1, 2, -1, -1)
    weights = torch.full((1, 6, 1, 2, 1), 0.5)
    out = sample_levels(value, SHAPES, points, weights)[0, :, 0]
    assert torch.allclose(out, torch.tensor([0, 0, 0, 0.5, 0.5, 1]))


def test_between_pixels_by_hand():
    """Of a 2 x 3 map, pixel centres at x = 1/6, 1/2, 5/6 and y = 1/4, 3/4."""
    value = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]).view(1, 6, 1, 1)
    where = torch.tensor([[1 / 6, 0.25], [5 / 6, 0.75], [1 / 3, 0.25], [2 / 3, 0.5], [1.0, 0.25]])
    points, weights = where.view(1, 5, 1, 1, 1, 2), torch.ones(1, 5, 1, 1, 1)
    # Two centres; halfway between two columns; amid four pixels; on the edge, where the outside is the other half.
    expected = torch.tensor([1, 32, 1.5, (2 + 4 + 16 + 32) / 4, 2])
    assert torch.allclose(sample_levels(value, [(2, 3)], points, weights)[0, :, 0], expected)


def test_each_level_is_where_its_shape_says():
    """Levels of one size in another order have the same length: only their order and shapes tell them apart."""
    shapes = [(2, 3), (3, 2), (1, 6)]
    value = torch.arange(18.0).view(1, 18, 1, 1)
    points = torch.tensor([[[0.5, 0.25], [0.25, 0.5], [1.5 / 6, 0.5]]]).view(1, 1, 1, 3, 1, 2)
    for level, expected in enumerate((1, 6 + 2, 12 + 1)):
        weights = torch.zeros(1, 1, 1, 3, 1)
        weights[..., level, 0] = 1
        assert sample_levels(value, shapes, points, weights).item() == pytest.approx(expected)


def test_heads_and_images_do_not_mix():
    draws = torch.Generator().manual_seed(2)
    value = torch.randn(B, S, HEADS, 2, generator=draws)
    points = torch.rand(B, Q, HEADS, 2, P, 2, generator=draws)
    weights = torch.rand(B, Q, HEADS, 2, P, generator=draws)
    whole = sample_levels(value, SHAPES, points, weights).view(B, Q, HEADS, 2)
    for b in range(B):
        for h in range(HEADS):
            alone = (slice(b, b + 1), slice(None), slice(h, h + 1))
            one = sample_levels(value[alone], SHAPES, points[alone], weights[alone])
            assert torch.allclose(one[0], whole[b, :, h], atol=1e-6)


def test_sampling_is_the_loops():
    draws = torch.Generator().manual_seed(0)
    value = torch.randn(B, S, HEADS, 2, generator=draws, dtype=torch.float64)
    points = torch.rand(B, Q, HEADS, 2, P, 2, generator=draws, dtype=torch.float64) * 1.4 - 0.2
    weights = torch.rand(B, Q, HEADS, 2, P, generator=draws, dtype=torch.float64)
    truth = sampling_oracle(value.numpy(), SHAPES, points.numpy(), weights.numpy())
    assert np.allclose(sample_levels(value, SHAPES, points, weights), truth, atol=1e-5)


def module(seed=0):
    torch.manual_seed(seed)
    return stir(DeformableAttention(D, levels=2, heads=HEADS, points=P), noise=0.3)


def given(coordinates, seed=1):
    draws = torch.Generator().manual_seed(seed)
    query, value = torch.randn(B, Q, D, generator=draws), torch.randn(B, S, D, generator=draws)
    reference = torch.rand(B, Q, 2, coordinates, generator=draws) * 0.6 + 0.2
    mask = torch.zeros(B, S, dtype=torch.bool)
    mask[1, [6, 13, 20, 27, 32, 37, 42]] = True  # the last columns of the second image
    return query, reference, value, mask


@pytest.mark.parametrize("coordinates", [2, 4])
def test_the_module_is_the_loops(coordinates):
    attention = module()
    query, reference, value, mask = given(coordinates)
    with torch.no_grad():
        ours = attention(query, reference, value, SHAPES, mask)
        values = attention.value_proj(value).masked_fill(mask[..., None], 0).view(B, S, HEADS, -1).numpy()
        offsets = attention.sampling_offsets(query).view(B, Q, HEADS, 2, P, 2).numpy()
        logits = attention.attention_weights(query).view(B, Q, HEADS, 2, P).numpy()
    points, weights = np.zeros(offsets.shape), np.zeros(logits.shape)
    for b, q, h in np.ndindex(B, Q, HEADS):
        weights[b, q, h] = np.exp(logits[b, q, h]) / np.exp(logits[b, q, h]).sum()  # over levels and points
        for level, (height, width) in enumerate(SHAPES):
            box = reference[b, q, level].tolist()
            # An offset is in pixels of the level; around a box, P of them reach its edge.
            unit = (1 / width, 1 / height) if coordinates == 2 else (box[2] / 2 / P, box[3] / 2 / P)
            for p in range(P):
                dx, dy = offsets[b, q, h, level, p]
                points[b, q, h, level, p] = box[0] + dx * unit[0], box[1] + dy * unit[1]
    sampled = torch.from_numpy(sampling_oracle(values, SHAPES, points, weights)).float()
    with torch.no_grad():
        truth = attention.output_proj(sampled)
    assert ours.shape == (B, Q, D)
    assert torch.allclose(ours, truth, atol=1e-5)


def test_what_is_masked_contributes_nothing():
    attention = module()
    query, reference, value, mask = given(2)
    value.requires_grad_()
    out = attention(query, reference, value, SHAPES, mask)
    out.sum().backward()
    assert value.grad[mask].eq(0).all()
    assert value.grad[~mask].ne(0).any()
    other = value.detach().masked_fill(mask[..., None], 1e6)
    assert torch.equal(out, attention(query, reference, other, SHAPES, mask))
    assert not torch.equal(out, attention(query, reference, value, SHAPES))


def test_gradients_reach_offsets_weights_and_reference():
    attention = module()
    query, reference, value, mask = given(4)
    reference.requires_grad_()
    attention(query, reference, value, SHAPES, mask).square().sum().backward()
    for name, parameter in attention.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    assert reference.grad.abs().sum() > 0


def test_the_offsets_begin_as_a_star():
    attention = DeformableAttention(D, levels=2, heads=4, points=P)
    assert attention.sampling_offsets.weight.eq(0).all()
    assert attention.attention_weights.weight.eq(0).all()
    star = attention.sampling_offsets.bias.view(4, 2, P, 2)
    for head, (x, y) in enumerate([(1, 0), (0, 1), (-1, 0), (0, -1)]):
        for p in range(P):
            truth = torch.tensor([x * (p + 1.0), y * (p + 1.0)])
            assert torch.allclose(star[head, :, p], truth.expand(2, 2), atol=1e-6)
    diagonal = DeformableAttention(16, levels=1, heads=8, points=1).sampling_offsets.bias.view(8, 2)[1]
    assert diagonal.tolist() == pytest.approx([1, 1])  # the far side of a square, not of a circle


def test_half_precision_keeps_pixels_apart():
    width = 160  # of the finest level at paper scale; bfloat16 places a point near its end to within half a pixel
    stripes = (torch.arange(width) % 2).bfloat16().view(1, width, 1, 1)
    columns = torch.arange(width)
    points = torch.stack([(columns + 0.5) / width, torch.full((width,), 0.5)], -1).view(1, width, 1, 1, 1, 2)
    weights = torch.ones(1, width, 1, 1, 1, dtype=torch.bfloat16)
    out = sample_levels(stripes, [(1, width)], points, weights)
    assert torch.allclose(out.flatten().float(), stripes.flatten().float(), atol=0.01)


def test_half_precision_in_is_half_precision_out():
    query, reference, value, mask = (t.bfloat16() if t.is_floating_point() else t for t in given(2))
    out = module().bfloat16()(query, reference, value, SHAPES, mask)
    assert out.dtype == torch.bfloat16
    exact = module()(query.float(), reference.float(), value.float(), SHAPES, mask)
    assert (out - exact).abs().max() < 0.1 * exact.abs().max()


def test_names_are_the_public_ones():
    attention = DeformableAttention(D, levels=2, heads=HEADS, points=P)
    assert {name: tuple(value.shape) for name, value in attention.state_dict().items()} == {
        "sampling_offsets.weight": (HEADS * 2 * P * 2, D),
        "sampling_offsets.bias": (HEADS * 2 * P * 2,),
        "attention_weights.weight": (HEADS * 2 * P, D),
        "attention_weights.bias": (HEADS * 2 * P,),
        "value_proj.weight": (D, D),
        "value_proj.bias": (D,),
        "output_proj.weight": (D, D),
        "output_proj.bias": (D,),
    }
    assert isinstance(attention.sampling_offsets, nn.Linear)
    assert math.prod(attention.sampling_offsets.weight.shape) == 48 * 12

"""Encoder and decoder: padding that does not matter, refinement, the first stage."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from proseco.nn import position
from proseco.nn.deformable_attention import DeformableAttention
from proseco.nn.deformable_transformer import (
    DeformableTransformer,
    Encoder,
    EncoderLayer,
    _embed_boxes,
    add_reference,
    inverse_sigmoid,
    pixel_centres,
)
from tests.tiny import stir

SHAPES = [(6, 10), (3, 5)]
D, N, LAYERS = 16, 7, 3


def transformer(**changes):
    options = {
        "width": D,
        "heads": 4,
        "encoder_layers": 2,
        "decoder_layers": LAYERS,
        "ffn": 24,
        "dropout": 0.0,
        "levels": 2,
        "points": 3,
        "queries": N,
        "two_stage": False,
    }
    torch.manual_seed(0)
    return stir(DeformableTransformer(**(options | changes)), noise=0.2).eval()


def maps(images, shapes=SHAPES, seed=0):
    """Features, positions and masks without padding."""
    draws = torch.Generator().manual_seed(seed)
    features = [torch.randn(images, D, h, w, generator=draws) for h, w in shapes]
    masks = [torch.zeros(images, h, w, dtype=torch.bool) for h, w in shapes]
    return features, [position.sine(m, D) for m in masks], masks


def embedding(seed=3):
    return torch.randn(N, 2 * D, generator=torch.Generator().manual_seed(seed))


def test_inverse_sigmoid():
    x = torch.tensor([0.001, 0.2, 0.5, 0.97])
    assert torch.allclose(inverse_sigmoid(x).sigmoid(), x)
    ends = inverse_sigmoid(torch.tensor([-1.0, 0.0, 1.0, 2.0]))
    assert ends.tolist() == pytest.approx([math.log(1e-5)] * 2 + [-math.log(1e-5)] * 2, abs=1e-3)


def test_pixel_centres_are_relative_to_the_image_in_the_map():
    ratios = torch.tensor([[[1.0, 1.0], [1.0, 1.0]], [[0.5, 0.75], [0.4, 2 / 3]]])
    centres = pixel_centres([(2, 4), (3, 5)], ratios)
    assert centres.shape == (2, 8 + 15, 2)
    assert centres[0, 0].tolist() == [0.125, 0.25]
    assert centres[0, 1].tolist() == [0.375, 0.25]  # row by row: x moves first
    assert centres[0, 4].tolist() == [0.125, 0.75]
    assert centres[0, 8 + 5].tolist() == pytest.approx([0.1, 0.5])
    assert centres[1, 1].tolist() == pytest.approx([0.375 / 0.5, 0.25 / 0.75])
    assert centres[1, 8].tolist() == pytest.approx([0.1 / 0.4, (1 / 6) / (2 / 3)])


def test_add_reference():
    offset = torch.tensor([0.3, -0.2, 0.1, 0.4])
    point, box = torch.tensor([0.2, 0.7]), torch.tensor([0.2, 0.7, 0.3, 0.4])
    logit = [math.log(p / (1 - p)) for p in box.tolist()]
    truth = [1 / (1 + math.exp(-(o + r))) for o, r in zip(offset.tolist(), logit, strict=True)]
    assert add_reference(offset, box).tolist() == pytest.approx(truth, abs=1e-6)
    sides = [1 / (1 + math.exp(-o)) for o in offset.tolist()[2:]]
    assert add_reference(offset, point).tolist() == pytest.approx(truth[:2] + sides, abs=1e-6)
    assert torch.allclose(add_reference(torch.zeros(4), box), box)


@pytest.mark.parametrize("two_stage", [False, True])
def test_padding_does_not_matter(two_stage):
    net = transformer(two_stage=two_stage)
    features, positions, masks = maps(1)
    alone = net.encode(features, positions, masks)
    padded, padded_masks = [], []
    for level, (h, w) in enumerate(SHAPES):  # an image in a map 4/3 as high and 6/5 as wide, beside one that fills it
        canvas = torch.randn(2, D, h * 4 // 3, w * 6 // 5, generator=torch.Generator().manual_seed(9)) * 5
        canvas[0, :, :h, :w] = features[level][0]
        mask = torch.zeros(2, h * 4 // 3, w * 6 // 5, dtype=torch.bool)
        mask[0, h:] = mask[0, :, w:] = True
        padded.append(canvas)
        padded_masks.append(mask)
    together = net.encode(padded, [position.sine(m, D) for m in padded_masks], padded_masks)
    assert torch.allclose(together[2][0], torch.tensor([5 / 6, 3 / 4]).expand(2, 2))  # width first
    assert torch.equal(together[2][1], torch.ones(2, 2))
    inside = ~together[3][0]
    assert torch.allclose(alone[0][0], together[0][0][inside], atol=1e-4)
    if two_stage:
        (memory, logits), (memories, all_logits) = net.encoder_proposals(*alone), net.encoder_proposals(*together)
        assert torch.allclose(memory[0], memories[0][inside], atol=1e-4)
        assert torch.allclose(logits[0], all_logits[0][inside], atol=1e-4)
        assert all_logits[0][~inside].isinf().all()
        return
    queries, references = net.decode(*alone, embedding())
    padded_queries, _ = net.decode(*together, embedding())
    assert torch.allclose(queries[:, 0], padded_queries[:, 0], atol=1e-4)
    assert not torch.allclose(queries[:, 0], padded_queries[:, 1], atol=1e-2)
    assert queries.shape == (LAYERS, 1, N, D)
    assert len(references) == LAYERS


def test_the_order_of_the_queries_is_theirs():
    net = transformer()
    encoded = net.encode(*maps(2))
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    queries, _ = net.decode(*encoded, embedding())
    permuted, _ = net.decode(*encoded, embedding()[order])
    assert torch.allclose(queries[:, :, order], permuted, atol=1e-5)


def test_position_comes_first_and_gives_the_reference():
    net = transformer()
    encoded = net.encode(*maps(2))
    _, references = net.decode(*encoded, embedding())
    truth = net.reference_points(embedding()[:, :D]).sigmoid()
    for reference in references:
        assert torch.allclose(reference, truth.expand(2, -1, -1))


def test_each_level_has_its_embedding():
    net = transformer()
    before = net.encode(*maps(1))[0]
    with torch.no_grad():
        net.level_embed[1] += 1
    assert not torch.allclose(before, net.encode(*maps(1))[0], atol=1e-3)


def test_refinement_moves_the_reference_of_the_next_layer():
    net = transformer()
    heads = nn.ModuleList(nn.Linear(D, 4) for _ in range(LAYERS))
    encoded = net.encode(*maps(2))
    net.decoder.bbox_embed = heads
    queries, references = net.decode(*encoded, embedding())
    assert [r.shape[-1] for r in references] == [2, 4, 4]
    for layer in range(LAYERS - 1):
        truth = add_reference(heads[layer](queries[layer]), references[layer])
        assert torch.allclose(references[layer + 1], truth)
        assert not references[layer + 1].requires_grad  # each layer learns its own step
    add_reference(heads[1](queries[1]), references[1]).sum().backward()
    assert heads[0].weight.grad is None
    assert heads[1].weight.grad.abs().sum() > 0


def test_the_decoder_reads_the_image_where_the_reference_is():
    """An embedding of zeros and no layer before: what a query gets depends on the map around its point."""
    net = transformer(encoder_layers=0)
    features, positions, masks = maps(1)
    with torch.no_grad():
        net.reference_points.weight.zero_()
        net.reference_points.bias.copy_(inverse_sigmoid(torch.tensor([0.9, 0.1])))  # right, top
        for layer in net.decoder.layers:
            layer.cross_attn._initialise()
            layer.cross_attn.sampling_offsets.bias.mul_(0.1)
    before, _ = net.decode(*net.encode(features, positions, masks), embedding())
    for row, column, near in ((0, 9, True), (5, 0, False), (0, 0, False), (5, 9, False)):
        changed = [f.clone() for f in features]
        changed[0][:, :, row, column] += 5
        after, _ = net.decode(*net.encode(changed, positions, masks), embedding())
        assert torch.allclose(before, after, atol=1e-6) != near, (row, column)


def test_under_autocast_the_encoder_is_lowered_and_what_it_adds_to_is_not():
    encoder = Encoder(EncoderLayer(8, 16, 0.0, 1, 2, 2), 1)
    (layer,) = encoder.layers
    nn.init.zeros_(layer.self_attn.output_proj.weight)  # nothing is added
    seen = []
    layer.self_attn.register_forward_pre_hook(lambda _, given: seen.extend((given[0].dtype, given[2].dtype)))
    layer.norm1.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    x, position, ratios = torch.randn(1, 6, 8), torch.randn(1, 6, 8), torch.ones(1, 1, 2)
    for dtype, lowered in ((torch.float32, torch.bfloat16), (torch.float64, torch.float64)):
        seen.clear()
        with torch.autocast("cpu", torch.bfloat16):
            encoder.to(dtype)(
                x.to(dtype), position.to(dtype), [(2, 3)], ratios.to(dtype), torch.zeros(1, 6, dtype=torch.bool)
            )
        assert seen[:2] == [lowered, lowered]
        assert torch.equal(seen[2], x.to(dtype))


def test_training_begins_as_in_the_public_code():
    torch.manual_seed(0)
    sizes = {"width": 64, "heads": 4, "encoder_layers": 1, "decoder_layers": 1, "ffn": 96, "dropout": 0.0}
    net = DeformableTransformer(**sizes, levels=3, points=3, queries=N, two_stage=False)
    assert net.level_embed.std().item() == pytest.approx(1, abs=0.2)
    assert (net.reference_points.bias == 0).all()
    for layer in (net.encoder.layers[0], net.decoder.layers[0]):
        bound = math.sqrt(6 / (64 + 96))  # Xavier's
        assert 0.95 * bound < layer.linear1.weight.abs().max() <= bound
        attention = layer.cross_attn if hasattr(layer, "cross_attn") else layer.self_attn
        assert (attention.sampling_offsets.weight == 0).all() and (attention.attention_weights.weight == 0).all()
        assert torch.equal(attention.sampling_offsets.bias, DeformableAttention(64, 3, 4, 3).sampling_offsets.bias)


def test_dropout_follows_every_part_of_a_layer():
    """As in the public code: attention, its sum, the hidden layer and its sum."""
    net = transformer(dropout=0.3)
    assert {module.p for module in net.modules() if isinstance(module, nn.Dropout)} == {0.3}
    assert {layer.self_attn.dropout for layer in net.decoder.layers} == {0.3}
    names, seen = [], []
    for kind in ("encoder", "decoder"):
        layer = getattr(net, kind).layers[0]
        for name, module in layer.named_children():
            if isinstance(module, nn.Dropout):
                names.append((kind, name))
                module.register_forward_hook(lambda *_, place=names[-1]: seen.append(place))
    net.decode(*net.encode(*maps(1)), embedding())
    assert sorted(seen) == sorted(names) and len(names) == 3 + 4


def test_dropout_is_of_training_alone():
    net = transformer(dropout=0.5)
    encoded = net.encode(*maps(1))
    assert torch.equal(encoded[0], net.encode(*maps(1))[0])
    net.train()
    assert not torch.allclose(net.encode(*maps(1))[0], net.encode(*maps(1))[0], atol=1e-3)


def test_the_first_stage_proposes_one_box_a_pixel():
    net = transformer(two_stage=True)
    features, _, masks = maps(1, shapes=[(20, 70), (3, 5)])
    masks[0][:, :, 42:] = masks[1][:, :, 3:] = True
    memory, shapes, ratios, mask = net.encode(features, [position.sine(m, D) for m in masks], masks)
    out, logits = net.encoder_proposals(memory, shapes, ratios, mask)
    boxes = logits[0].sigmoid()
    assert out.shape == memory.shape
    usable = logits[0].isfinite().all(-1)
    # The centre of the finer map's first column is at 1/84 of the image (.0119), within; its padding is not.
    assert usable[:1400].view(20, 70).sum().item() == 20 * 42
    assert boxes[usable][:, 2:].unique().tolist() == pytest.approx([0.05, 0.1])
    assert torch.allclose(boxes[0], torch.tensor([0.5 / 42, 0.5 / 20, 0.05, 0.05]), atol=1e-6)
    assert torch.allclose(boxes[1400], torch.tensor([0.5 / 3, 0.5 / 3, 0.1, 0.1]), atol=1e-6)
    empty = net.enc_output_norm(net.enc_output(torch.zeros(D)))
    assert torch.allclose(out[0][~usable], empty.expand(int((~usable).sum()), -1))
    narrow = net.encoder_proposals(*net.encode(*maps(1, shapes=[(4, 60), (2, 3)])))[1]
    assert narrow[0, :240].view(4, 60, 4)[:, 0].isinf().all()  # .5/60 is nearer than 1 % to the border


def test_the_second_stage_begins_at_the_proposals():
    net = transformer(two_stage=True)
    proposals = torch.randn(2, N, 4, generator=torch.Generator().manual_seed(4))
    net.decoder.forward = lambda content, position, reference, *rest: (content, position, reference)
    content, place, reference = net.decode(*net.encode(*maps(2)), None, proposals)
    embedded = net.pos_trans_norm(net.pos_trans(_embed_boxes(proposals.sigmoid(), D // 2)))
    assert torch.equal(reference, proposals.sigmoid())
    assert torch.equal(place, embedded[..., :D])
    assert torch.equal(content, embedded[..., D:])


def test_boxes_are_embedded_like_positions():
    boxes = torch.rand(1, 2, 4)
    code = _embed_boxes(boxes, 6)
    assert code.shape == (1, 2, 24)
    for query in range(2):
        for coordinate in range(4):
            for k in range(6):
                angle = 2 * math.pi * boxes[0, query, coordinate].item() / 10000 ** (2 * (k // 2) / 6)
                truth = math.cos(angle) if k % 2 else math.sin(angle)
                assert code[0, query, coordinate * 6 + k].item() == pytest.approx(truth, abs=1e-5)


def test_layers_end_in_a_layer_norm():
    net = transformer()
    for norm in (net.encoder.layers[-1].norm2, net.decoder.layers[-1].norm3):
        nn.init.ones_(norm.weight)
        nn.init.zeros_(norm.bias)
    memory, *rest = net.encode(*maps(1))
    queries, _ = net.decode(memory, *rest, embedding())
    for out in (memory, queries[-1]):
        assert torch.allclose(out, F.layer_norm(out, (D,)), atol=1e-4)

"""SoCo on torchvision's own Mask R-CNN: levels, the loss in plain loops, and what leaves."""

import math

import numpy as np
import pytest
import torch
from torchvision import ops
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FrozenBatchNorm2d

from proseco.data.batch import collate
from proseco.data.sample import Sample
from proseco.methods import soco
from proseco.nn.backbone import ResNet
from tests import tiny

PLAIN = dict.fromkeys(("jitter_probability", "grayscale_probability", "blur_probability"), 0.0)
VIEWS = {"side": 64, "area": (0.5, 1.0), "boxes": 3, "jitter": 0.1, "jitter_probability": 0.5}
VIEWS |= {"filter": {"min_side": 8, "aspect": None, "size": None, "limit": None}, "first": PLAIN, "second": PLAIN}


def detector():
    torch.manual_seed(0)
    body = ResNet(**tiny.BODY, num_classes=1, norm=FrozenBatchNorm2d)
    names = {f"layer{i}": str(i - 1) for i in (1, 2, 3, 4)}
    return MaskRCNN(BackboneWithFPN(body, names, list(tiny.BODY["widths"]), 12), num_classes=5)


def made(scratch=False, ema_rate=0.9, **changes):
    options = VIEWS | {"canonical_size": 28.0, "projector": (20, 6), "steps": 50} | changes
    return soco.build(detector(), **options, ema_rate=ema_rate, scratch=scratch)


def batch(method, count=3):
    """Images of unequal sizes; the second has no proposal."""
    found = []
    for i in range(count):
        rng = np.random.default_rng(i)
        low = rng.uniform(0, 40, (0 if i == 1 else 9, 2))
        boxes = np.concatenate([low, low + rng.uniform(10, 30, low.shape)], 1).astype(np.float32)
        sample = Sample(f"k{i}", rng.integers(0, 256, (70 + 9 * i, 90, 3), dtype=np.uint8), boxes)
        found.append(method.transform(sample, rng))
    return collate(found)


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(x * x for x in b))


@pytest.mark.parametrize("extra", [None, 48])
def test_the_loss_is_that_of_plain_loops(extra):
    method = made(extra_side=extra)
    tiny.stir(method.teacher, 3)
    data = batch(method)
    terms, figures = method.losses(data)
    p = [method.student(crops.images, crops.boxes).tolist() for crops in data.crops]
    z = [method.teacher(crops.images, crops.boxes).tolist() for crops in data.crops]
    of_first = [3] * 3 if extra is None else [6] * 3  # boxes of V1: three for each other window
    assert [len(boxes) for boxes in data.crops[0].boxes] == of_first
    for other in range(1, len(data.crops)):
        total = 0.0
        for image in range(3):
            of_image = 0.0
            for box in range(3):
                row, first = image * 3 + box, image * of_first[0] + box + 3 * (other == 3)
                of_image += 2 - 2 * cosine(p[0][first], z[other][row]) + 2 - 2 * cosine(p[other][row], z[0][first])
            total += of_image / 3
        assert terms[f"distance_1{other + 1}"].item() == pytest.approx(total / 3, rel=1e-4)
    assert len(terms) == len(data.crops) - 1 == (2 if extra is None else 3)
    assert set(figures) == {"spread", "ema_distance"}


@pytest.mark.parametrize(("side", "level"), [(13, 0), (15, 1), (27, 1), (29, 2), (55, 2), (57, 3), (64, 3)])
def test_a_box_is_pooled_from_the_level_of_its_size(side, level):
    encoder = made().student.encoder
    maps = {str(i): torch.full((1, 12, 64 // 2**i // 4, 64 // 2**i // 4), float(i)) for i in range(4)}
    box = torch.tensor([[0.0, 0.0, side, side]])
    assert (
        encoder.pool(maps | {"pool": torch.full((1, 12, 1, 1), 9.0)}, [box], [(64, 64)]).round().unique().item()
        == level
    )


def test_a_mirrored_view_has_the_mirrored_boxes_features():
    pool = made().student.encoder.pool
    draws = torch.Generator().manual_seed(0)
    maps = {str(i): torch.randn(1, 12, 16 // 2**i, 16 // 2**i, generator=draws).expand(2, -1, -1, -1) for i in range(4)}
    boxes = torch.tensor([[3.0, 5.0, 16.0, 18.0], [8.0, 9.0, 29.0, 36.0], [10.0, 6.0, 58.0, 50.0]])
    mirrored = torch.stack([64 - boxes[:, 2], boxes[:, 1], 64 - boxes[:, 0], boxes[:, 3]], 1)
    found = soco._pool(pool, maps, [boxes[:1], boxes[1:]], [(64, 64)] * 2)
    flipped = {name: level.flip(-1) for name, level in maps.items()}
    other = soco._pool(pool, flipped, [mirrored[:1], mirrored[1:]], [(64, 64)] * 2)
    assert torch.allclose(other.flip(-1), found, atol=1e-5)
    for row, level in enumerate((0, 1, 2)):
        given = {"output_size": 7, "spatial_scale": 1 / 2 ** (level + 2), "sampling_ratio": 2}
        whole = ops.roi_align(maps[str(level)][:1], [boxes[row : row + 1]], **given, aligned=True)
        assert torch.allclose(found[row : row + 1], whole, atol=1e-5)
        beside = ops.roi_align(maps[str(level)][:1], [boxes[row : row + 1]], **given, aligned=False)
        assert not torch.allclose(found[row : row + 1], beside, atol=0.1)


def test_all_that_is_finetuned_is_trained_and_nothing_else_leaves():
    method = made()
    terms, _ = method.losses(batch(method))
    sum(terms.values()).backward()
    assert not [name for name, p in method.student.named_parameters() if p.grad is None]
    assert all(p.grad is None for p in method.teacher.parameters())
    wanted = {k: v for k, v in detector().state_dict().items() if k.startswith(("backbone.", "roi_heads.box_head."))}
    for state in method.state_dicts().values():
        assert {key: value.shape for key, value in state.items()} == {k: v.shape for k, v in wanted.items()}


def test_a_finetuned_detector_begins_with_the_features_of_the_pretrained_one():
    """Frozen batch norm there has the weights and the statistics of the trained one here."""
    method = made()
    data = batch(method)
    optimizer = torch.optim.SGD(method.student.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(method.losses(data)[0].values()).backward()
        optimizer.step()
        method.after_step()
    images = torch.randn(2, 3, 64, 96)
    states, features = method.state_dicts(), {}
    for name, encoder in (("student", method.student.encoder), ("teacher", method.teacher.encoder)):
        fresh = detector()
        missing, unexpected = fresh.load_state_dict(states[name], strict=False)
        assert not unexpected and all(
            key.startswith(("rpn.", "roi_heads.box_predictor", "roi_heads.mask")) for key in missing
        )
        assert any(isinstance(module, FrozenBatchNorm2d) for module in fresh.backbone.body.modules())
        ours, theirs = encoder.eval().backbone(images), fresh.eval().backbone(images)
        features[name] = torch.cat([level.flatten() for level in theirs.values()])
        for level in ours:
            assert torch.allclose(ours[level], theirs[level], rtol=1e-3, atol=1e-4)
        pooled = torch.randn(2, 12, 7, 7)
        assert torch.allclose(encoder.box_head(pooled), fresh.roi_heads.box_head(pooled), atol=1e-5)
    assert not torch.allclose(features["student"], features["teacher"], atol=1e-3)


def test_from_scratch_or_from_the_backbone_given():
    given = detector().backbone.state_dict()
    kept, drawn = (made(scratch=scratch).student.encoder.backbone.state_dict() for scratch in (False, True))
    for key, value in given.items():
        assert torch.equal(kept[key], value)
    body = [key for key in given if key.startswith("body.") and given[key].dim() == 4]
    assert body and all(not torch.equal(drawn[key], given[key]) for key in body)
    assert all(torch.equal(drawn[key], given[key]) for key in given if key.startswith("fpn."))
    weight = drawn["body.layer4.0.conv1.weight"]
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (weight.shape[0] * 9)), rel=0.1)


def test_it_learns_that_three_views_show_the_same():
    method = made(ema_rate=0.95)
    data = batch(method, 5)
    optimizer = torch.optim.SGD(method.student.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(12):
        loss = sum(method.losses(data)[0].values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step()
        losses.append(loss.item())
    assert losses[0] > 5 and losses[-1] < 0.5 * losses[0]
    assert method.losses(data)[1]["spread"] > 0.3


def test_its_options_reach_the_views_and_the_target():
    inverted = PLAIN | {"solarise_probability": 1.0}
    options = {"area": (0.6, 0.9), "boxes": 2, "jitter": 0.2, "jitter_probability": 0.3, "second": inverted}
    for extra, others in ((None, 2), (48, 3)):
        method = made(ema_rate=0.7, extra_side=extra, **options)
        views = method.transform
        assert (views.side, views.area, views.boxes, views.keep) == (64, (0.6, 0.9), 2, VIEWS["filter"])
        assert (views.jitter, views.jitter_probability, views.extra_side) == (0.2, 0.3, extra)
        assert views.photometric == (PLAIN, *[inverted] * others)  # V1's is the first
        assert method.teacher.keep_rate() == pytest.approx(0.7)


def test_batch_norm_is_trained_and_from_scratch_is_that_of_a_fresh_network(monkeypatch):
    """The body comes with frozen norms, which would keep the statistics of the backbone that it began from."""
    given = detector()
    frozen = [module for module in given.modules() if isinstance(module, FrozenBatchNorm2d)]
    for module in frozen:
        module.weight.uniform_(0.5, 2), module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    monkeypatch.setattr(__name__ + ".detector", lambda: given)
    method = made(scratch=True)
    for encoder in (method.student.encoder, method.teacher.encoder):
        norms = [module for module in encoder.backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        assert len(norms) == len(frozen) and all(module.training for module in norms)
        assert all((module.weight == 1).all() and (module.running_mean == 0).all() for module in norms)
    method.losses(batch(method))
    for encoder in (method.student.encoder, method.teacher.encoder):
        assert encoder.backbone.body.bn1.running_mean.abs().min() > 0

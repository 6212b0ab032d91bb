"""The convolutional detectors are torchvision's own models: names, outputs and losses."""

from dataclasses import replace

import pytest
import torch
from torchvision.models import detection
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from proseco.base.errors import InputError
from proseco.base.plugins import load
from proseco.detectors._torchvision import frame, pyramid
from proseco.nn import backbone
from proseco.training.devices import autocast
from tests import tiny

NAMES = ("faster_rcnn", "mask_rcnn", "fcos")
PUBLIC = {"faster_rcnn": "fasterrcnn_resnet50_fpn", "mask_rcnn": "maskrcnn_resnet50_fpn", "fcos": "fcos_resnet50_fpn"}
R50 = {"block": "bottleneck", "layers": (3, 4, 6, 3), "stem": 64, "widths": (64, 128, 256, 512)}
SIDES = (8, 16, 24, 40, 64)
SMALL = {"channels": 32, "anchor_sizes": SIDES, "rpn_before_nms": (60, 40), "rpn_after_nms": (50, 30)}
SMALL |= {"rpn_sampled": 24, "box_sampled": 10, "box_width": 20, "score_threshold": 0.01}
KEYWORDS = {"faster_rcnn": SMALL, "mask_rcnn": SMALL | {"mask_width": 12, "mask_layers": 2}}
KEYWORDS["fcos"] = {"channels": 64, "layers": 1, "score_threshold": 0.01}
every = pytest.mark.parametrize("name", NAMES)


def detector(name, seed=0, **changes):
    torch.manual_seed(seed)
    model = load("detectors", name)(**{"num_classes": 5, "backbone": tiny.BODY} | KEYWORDS[name] | changes)
    for module in model.modules():  # as if trained: the running statistics of a new network are those of nothing
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.fill_(0.3)
    return tiny.stir(model, seed, noise=0.02).train()


def reference(name, ours):
    """torchvision's model with our weights, which does not resize images whose short edge is 64."""
    given = {"min_size": 64, "max_size": 999, "_skip_resize": True}
    if name == "fcos":
        body = pyramid(tiny.BODY, 64, first=2, extra=LastLevelP6P7(64, 64))
        head = detection.fcos.FCOSHead(64, 1, 5, 1)
        theirs = detection.FCOS(body, 5, head=head, score_thresh=0.01, **given)
    else:
        given |= {"rpn_anchor_generator": AnchorGenerator(tuple((s,) for s in SIDES), ((0.5, 1.0, 2.0),) * 5)}
        given |= {"rpn_pre_nms_top_n_train": 60, "rpn_pre_nms_top_n_test": 40}
        given |= {"rpn_post_nms_top_n_train": 50, "rpn_post_nms_top_n_test": 30}
        given |= {"rpn_batch_size_per_image": 24, "box_batch_size_per_image": 10, "box_score_thresh": 0.01}
        given |= {"box_head": TwoMLPHead(32 * 49, 20), "box_predictor": FastRCNNPredictor(20, 6)}
        if name == "mask_rcnn":
            given |= {"mask_head": MaskRCNNHeads(32, (12, 12), 1), "mask_predictor": MaskRCNNPredictor(12, 12, 6)}
        kind = detection.MaskRCNN if name == "mask_rcnn" else detection.FasterRCNN
        theirs = kind(pyramid(tiny.BODY, 32, first=1), **given)
    theirs.load_state_dict(ours.state_dict())
    return theirs.train(ours.training)


@pytest.mark.parametrize("first", [1, 2])
def test_the_pyramids_stages_are_torchvisions_and_on_a_gpu_fold_every_norm(monkeypatch, first):
    torch.manual_seed(0)
    whole = tiny.stir(pyramid(tiny.BODY, 16, first=first))
    theirs = IntermediateLayerGetter(whole.body, whole.body.return_layers)
    norms, ran = [m for m in whole.modules() if isinstance(m, FrozenBatchNorm2d)], []
    for norm in norms:
        norm.weight.fill_(0.7)
        norm.register_forward_hook(lambda *_: ran.append(1))
    x = torch.randn(2, 3, 64, 96)
    plain, expected = whole.body(x), theirs(x)
    assert list(plain) == list(expected) == [str(number) for number in range(5 - first)]
    assert all(torch.equal(plain[name], expected[name]) for name in plain)
    assert len(ran) == 2 * len(norms) > 10
    ran.clear()
    monkeypatch.setattr(backbone, "can_fold", lambda norm, x: isinstance(norm, FrozenBatchNorm2d))
    folded = whole.body(x)
    assert not ran
    assert all(torch.allclose(folded[name], plain[name], atol=1e-5) for name in plain)


@pytest.mark.parametrize("seed", range(4))
def test_no_side_of_a_fresh_fcos_is_dead(seed):
    """Else a box has no area wherever it is, and nothing moves it."""
    torch.manual_seed(seed)
    model = load("detectors", "fcos")(num_classes=5, backbone=tiny.BODY, **KEYWORDS["fcos"])
    made = batch()
    sides = model.head(model._levels(frame(made.views[0], made.mask)))["bbox_regression"]
    assert (sides > 0).float().mean((0, 1)).min() > 0.9


def batch(boxes=(3, 0, 2)):
    """Images 64 pixels high, the second one narrower, with masks."""
    made = tiny.batch(boxes, height=64, width=96)
    made.mask[:] = False
    made.mask[1:2, :, 80:] = True
    made.views.masked_fill_(made.mask[:, None], 0)
    return made


def masks(made):
    """An ellipse in every box."""
    found = []
    for boxes, inside in zip(made.boxes, ~made.mask, strict=True):
        height, width = int(inside.any(1).sum()), int(inside.any(0).sum())
        y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
        cx, cy, w, h = boxes[:, :, None, None].unbind(1)
        found.append((((x - cx) / w) ** 2 + ((y - cy) / h) ** 2 < 0.25).byte())
    return found


def targets(made):
    return [{**target, "masks": m} for target, m in zip(made.targets(), masks(made), strict=True)]


def theirs_input(made, first_label):
    """Images and targets as torchvision takes them."""
    images, wanted = [], []
    for image, mask, target in zip(made.views[0], made.mask, targets(made), strict=True):
        height, width = int((~mask).any(1).sum()), int((~mask).any(0).sum())
        images.append(image[:, :height, :width].float() / 255)
        cx, cy, w, h = target["boxes"].unbind(1)
        corners = torch.stack(
            [(cx - w / 2) * width, (cy - h / 2) * height, (cx + w / 2) * width, (cy + h / 2) * height], 1
        )
        wanted.append({"boxes": corners, "labels": target["labels"] + first_label, "masks": target["masks"]})
    return images, wanted


@every
def test_names_and_shapes_are_torchvisions(name):
    with torch.device("meta"):
        ours = load("detectors", name)(num_classes=91 if name == "fcos" else 90, backbone=R50)
        theirs = getattr(detection, PUBLIC[name])(weights=None, weights_backbone=None)
    wanted = {k: v.shape for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert {k: v.shape for k, v in ours.state_dict().items()} == wanted
    assert all(any(key.startswith(start) for key in wanted) for start in (ours.body_prefix, *ours.head_prefixes[:1]))


def test_frames_are_padded_to_whole_strides():
    images, mask = torch.zeros(2, 3, 50, 70, dtype=torch.uint8), torch.zeros(2, 50, 70, dtype=torch.bool)
    mask[1, 40:] = mask[1, :, 60:] = True
    framed = frame(images, mask)
    assert framed.tensors.shape == (2, 3, 64, 96) and framed.image_sizes == [(50, 70), (40, 60)]


def test_options_reach_torchvisions_parts():
    """The reference above has torchvision's own values of these, which are our defaults too."""
    for name in ("faster_rcnn", "mask_rcnn"):
        model = detector(name, score_threshold=0.11, nms=0.33, canonical=77)
        heads = model.roi_heads
        assert (heads.score_thresh, heads.nms_thresh, heads.box_roi_pool.canonical_scale) == (0.11, 0.33, 77)
    assert heads.mask_roi_pool.canonical_scale == 77
    model = detector("fcos", score_threshold=0.11, nms=0.33, radius=2.5)
    assert (model.score_thresh, model.nms_thresh, model.center_sampling_radius) == (0.11, 0.33, 2.5)


@every
def test_detections_are_torchvisions(name):
    ours = detector(name).eval()
    made = batch()
    sizes = torch.tensor([[96, 64], [80, 64], [96, 64]])
    found = ours.detect(made.views[0], made.mask, sizes)
    truth = reference(name, ours)(theirs_input(made, 1)[0])
    assert sum(len(one["scores"]) for one in truth) > 10
    first = 0 if name == "fcos" else 1
    for one, wanted in zip(found, truth, strict=True):
        assert torch.equal(one["labels"] + first, wanted["labels"])
        assert torch.allclose(one["scores"], wanted["scores"], atol=1e-5)
        assert torch.allclose(one["boxes_xyxy"], wanted["boxes"], rtol=1e-5, atol=1e-3)
    fewer = ours.detect(made.views[0], made.mask, sizes * torch.tensor([2, 3]), limit=2)
    for one, wanted in zip(fewer, found, strict=True):
        stretched = wanted["boxes_xyxy"][:2] * torch.tensor([2.0, 3, 2, 3])
        assert torch.allclose(one["boxes_xyxy"], stretched, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn"])
def test_losses_are_torchvisions(name):
    """Of a batch whose images have as many anchors and proposals as are sampled; the masks' of an image."""
    ours = detector(name)
    theirs = reference(name, ours)
    for boxes in ((3, 0, 2), (4,)):
        made = batch(boxes)
        torch.manual_seed(7)
        terms = ours.losses(made.views[0], made.mask, targets(made))
        torch.manual_seed(7)
        truth = {key.removeprefix("loss_"): value for key, value in theirs(*theirs_input(made, 1)).items()}
        assert set(terms) == set(truth)
        for key in terms if len(boxes) == 1 else set(terms) - {"mask"}:
            assert terms[key].item() == pytest.approx(truth[key].item(), rel=1e-5, abs=1e-6), key


def test_losses_of_fcos_are_torchvisions_but_for_what_they_are_divided_by():
    ours = detector("fcos")
    made = batch()
    terms = ours.losses(made.views[0], made.mask, made.targets())
    truth = reference("fcos", ours)(*theirs_input(made, 0))
    ratios = [(terms[key] / truth[key]).item() for key in truth]
    assert ratios == pytest.approx([ratios[0]] * 3, rel=1e-5)
    learning = ratios[0] * 9 * 5  # locations that learn one of the five objects
    assert learning == pytest.approx(round(learning), abs=1e-3) and 5 < learning < 45


@every
def test_parts_add_up_to_the_whole(name):
    """All anchors and proposals are sampled: nothing is left to chance."""
    known = KEYWORDS[name]
    ours = detector(name, **{key: 10_000 for key in ("rpn_sampled", "box_sampled") if key in known})
    made = batch((3, 0, 2, 1, 4))
    made = replace(made, object_masks=masks(made))
    global_batch = replace(made.global_batch, shares=(5, 2), boxes=14)  # another process has two more images
    images = replace(made, global_batch=global_batch)
    whole = ours.losses(images.views[0], images.mask, images.targets(), images.global_batch.boxes, images.share)
    alone = ours.losses(made.views[0], made.mask, made.targets())
    sums = dict.fromkeys(whole, 0.0)
    for part in images.split(2):
        terms = ours.losses(part.views[0], part.mask, part.targets(), part.global_batch.boxes, part.share)
        sums = {key: sums[key] + terms[key].item() for key in sums}
    assert ("mask" in whole) == (name == "mask_rcnn")
    factor = 10 / 14 if name == "fcos" else 5 / 7
    for key, value in whole.items():
        assert value.dtype == torch.float32 and value > 0
        assert sums[key] == pytest.approx(value.item(), rel=1e-5), key
        assert value.item() == pytest.approx(alone[key].item() * factor, rel=1e-5), key


def test_sampling_follows_the_seed():
    ours, made = detector("mask_rcnn"), batch()
    found = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        found.append(ours.losses(made.views[0], made.mask, targets(made)))
    assert all(torch.equal(found[0][key], found[2][key]) for key in found[0])
    assert found[0]["objectness"] != found[1]["objectness"]


@every
def test_images_without_objects_and_without_masks(name):
    ours = detector(name)
    made = batch((0, 0, 0))
    terms = ours.losses(made.views[0], made.mask, targets(made))
    sum(terms.values()).backward()
    assert all(value.isfinite() for value in terms.values())
    plain = ours.losses(made.views[0], made.mask, made.targets())
    assert [*plain] == [*terms]  # processes add them up by place
    if name == "mask_rcnn":
        assert terms["mask"] == 0 and plain["mask"] == 0 and not plain["mask"].requires_grad
        made = batch((2, 1, 1))
        some = targets(made)
        del some[0]["masks"]
        assert ours.losses(made.views[0], made.mask, some)["mask"] > 0


@every
def test_bfloat16_changes_little(name):
    ours, made = detector(name), batch()
    torch.manual_seed(0)
    exact = ours.losses(made.views[0], made.mask, targets(made))
    torch.manual_seed(0)
    with autocast(torch.device("cpu"), torch.bfloat16):
        terms = ours.losses(made.views[0], made.mask, targets(made))
    for key, value in terms.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[key].item(), rel=0.15, abs=0.02), key
    with autocast(torch.device("cpu"), torch.bfloat16):
        found = ours.eval().detect(made.views[0], made.mask, made.sizes)
    assert all(one["boxes_xyxy"].dtype == one["scores"].dtype == torch.float32 for one in found)


def test_mistakes_are_named():
    with pytest.raises(InputError, match="anchor_sizes=\\[8, 16\\] must be five"):
        detector("faster_rcnn", anchor_sizes=(8, 16))
    with pytest.raises(InputError, match="channels=32 must be a multiple of 32, from 64 on"):
        detector("fcos", channels=32)


@pytest.mark.slow
@every
def test_full_size_is_torchvisions(name):
    torch.manual_seed(0)
    theirs = getattr(detection, PUBLIC[name])(
        weights=None, weights_backbone=None, min_size=256, max_size=999, _skip_resize=True
    ).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(module.weight, 0.3)  # untrained, features grow and roundings too
    ours = load("detectors", name)(num_classes=91 if name == "fcos" else 90, backbone=R50).eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    ours.load_state_dict(state)
    made = tiny.batch((2, 1), height=256, width=320)
    made.mask[:] = False
    with torch.no_grad():
        found = ours.detect(made.views[0], made.mask, torch.tensor([[320, 256]] * 2))
        truth = theirs([image.float() / 255 for image in made.views[0]])
    for one, wanted in zip(found, truth, strict=True):
        assert torch.allclose(one["scores"], wanted["scores"], atol=1e-5)
        assert torch.allclose(one["boxes_xyxy"], wanted["boxes"], rtol=1e-4, atol=1e-2)
    ours.train(), theirs.train()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # ours is frozen
    images, wanted = theirs_input(made, 0 if name == "fcos" else 1)
    torch.manual_seed(3)
    terms = ours.losses(made.views[0][:1], made.mask[:1], targets(made)[:1])
    torch.manual_seed(3)
    truth = {key.removeprefix("loss_"): value.item() for key, value in theirs(images[:1], wanted[:1]).items()}
    factor = 1.0
    if name == "fcos":
        factor = terms["classification"].item() / truth["classification"]
    assert {key: value.item() / factor for key, value in terms.items()} == pytest.approx(truth, rel=1e-4)

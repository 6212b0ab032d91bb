"""The set loss against a matching by trying every way and sums in loops."""

import math

import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from proseco.nn import set_loss
from tests import oracles, references

LAYERS, B, N, C = 2, 3, 4, 5
WEIGHTS = {"class": 2.0, "coord": 5.0, "giou": 3.0}


def outputs(seed=0):
    draws = torch.Generator().manual_seed(seed)
    logits = torch.randn(LAYERS, B, N, C, generator=draws)
    boxes = torch.rand(LAYERS, B, N, 4, generator=draws) * 0.5 + 0.1
    return {"logits": logits.requires_grad_(), "boxes": boxes.requires_grad_()}


def wanted(counts=(2, 0, 3), seed=1):
    draws = torch.Generator().manual_seed(seed)
    return [
        {
            "boxes": torch.rand(n, 4, generator=draws) * 0.5 + 0.1,
            "labels": torch.randint(1, C, (n,), generator=draws),
        }
        for n in counts
    ]


def truth(layers, targets):
    pairs = [(t["labels"].tolist(), t["boxes"].tolist()) for t in targets]
    each = [oracles.set_loss_oracle(logits.tolist(), boxes.tolist(), pairs, WEIGHTS) for logits, boxes in layers]
    return {name: sum(terms[name] for terms in each) for name in WEIGHTS}


@pytest.mark.parametrize("counts", [(2, 0, 3), (1, 4, 6), (0, 0, 0), (4, 4, 4)])
def test_every_layer_has_its_own_matching(counts):
    out, targets = outputs(), wanted(counts)
    ours = set_loss.set_loss(out, targets, WEIGHTS)
    expected = truth(zip(out["logits"], out["boxes"], strict=True), targets)
    assert list(ours) == ["class", "coord", "giou"]
    assert {name: value.item() for name, value in ours.items()} == pytest.approx(expected, rel=1e-4)
    sum(ours.values()).backward()
    assert out["logits"].grad.abs().sum() > 0
    assert out["boxes"].grad.isfinite().all()
    assert out["boxes"].grad.abs().sum() == 0 or sum(counts) > 0


def test_the_first_stage_learns_objects_of_label_0():
    out, targets = outputs(), wanted()
    plain = set_loss.set_loss(out, targets, WEIGHTS)
    draws = torch.Generator().manual_seed(5)
    first = {"logits": torch.randn(B, 6, C, generator=draws), "boxes": torch.rand(B, 6, 4, generator=draws) * 0.5 + 0.1}
    staged = set_loss.set_loss(out | {"encoder": first}, targets, WEIGHTS)
    objects = [{"boxes": t["boxes"], "labels": torch.zeros_like(t["labels"])} for t in targets]
    expected = truth([(first["logits"], first["boxes"])], objects)
    for name in WEIGHTS:
        assert (staged[name] - plain[name]).item() == pytest.approx(expected[name], rel=1e-4)


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("counts", [(2, 0, 3), (1, 4, 6), (0, 1, 0)])
def test_it_is_transformers_loss(counts, stages):
    targets, found = wanted(counts), []
    for function in (set_loss.set_loss, references.set_loss):
        out = outputs()
        if stages == 2:
            draws = torch.Generator().manual_seed(5)
            logits, boxes = torch.randn(B, 6, C, generator=draws), torch.rand(B, 6, 4, generator=draws) * 0.5 + 0.1
            out["encoder"] = {"logits": logits.requires_grad_(), "boxes": boxes.requires_grad_()}
        terms = function(out, targets, WEIGHTS)
        sum(terms.values()).backward()
        parts = [out, out["encoder"]] if stages == 2 else [out]
        found.append((terms, [part[name].grad for part in parts for name in ("logits", "boxes")]))
    (ours, grads), (theirs, expected) = found
    for name in WEIGHTS:
        assert ours[name].item() == pytest.approx(theirs[name].item(), rel=1e-5)
    for mine, other in zip(grads, expected, strict=True):
        assert (mine - other).abs().max() < 1e-5 * other.abs().max()


def test_terms_are_divided_by_the_boxes_of_the_batch():
    out, targets = outputs(), wanted((3, 0, 0))
    one = {name: value[:, :1] for name, value in out.items()}
    alone, together = set_loss.set_loss(one, targets[:1], WEIGHTS), set_loss.set_loss(out, targets, WEIGHTS)
    assert together["coord"].item() == pytest.approx(alone["coord"].item(), rel=1e-5)  # images without boxes add none
    assert together["class"] > alone["class"]  # but all of their queries are background
    twice = set_loss.set_loss({k: torch.cat([v, v], 1) for k, v in one.items()}, targets[:1] * 2, WEIGHTS)
    for name in WEIGHTS:
        assert twice[name].item() == pytest.approx(alone[name].item(), rel=1e-5)


@pytest.mark.parametrize("counts", [(2, 0, 3), (0, 0, 0), (0, 1, 0)])
def test_parts_of_a_batch_sum_to_it(counts):
    out, targets = outputs(), wanted(counts)
    whole = set_loss.set_loss(out, targets, WEIGHTS)
    parts = [
        set_loss.set_loss({k: v[:, part] for k, v in out.items()}, targets[part], WEIGHTS, count=sum(counts))
        for part in (slice(0, 2), slice(2, 3))
    ]
    for name in WEIGHTS:
        assert sum(part[name].item() for part in parts) == pytest.approx(whole[name].item(), rel=1e-5)


def test_a_weight_scales_its_term_alone_when_the_matching_is_clear():
    out, targets = outputs(), wanted((2, 1, 2))
    with torch.no_grad():
        out["logits"] *= 0.01
        for image, target in enumerate(targets):
            out["boxes"][:, image, : len(target["boxes"])] = target["boxes"] + 1e-3
    base = set_loss.set_loss(out, targets, WEIGHTS)
    for name in WEIGHTS:
        changed = set_loss.set_loss(out, targets, WEIGHTS | {name: 2 * WEIGHTS[name]})
        for term in WEIGHTS:
            factor = 2 if term == name else 1
            assert changed[term].item() == pytest.approx(factor * base[term].item(), rel=1e-4)


def test_a_prediction_that_is_no_number_names_the_image():
    out, targets = outputs(), wanted()
    with torch.no_grad():
        out["boxes"][1, 2, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="image number 2 of the batch"):
        set_loss.set_loss(out, targets, WEIGHTS)
    named = [{**target, "key": f"n0{image}"} for image, target in enumerate(targets)]
    with pytest.raises(FloatingPointError, match="image n02 is not finite"):
        set_loss.set_loss(out, named, WEIGHTS)


def test_focal_is_the_loops_and_torchvisions():
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(N, C, generator=draws) * 3
    target = (torch.rand(N, C, generator=draws) > 0.7).float()
    ours = set_loss.focal(logits, target).item()
    pairs = zip(logits.flatten().tolist(), target.flatten().tolist(), strict=True)
    assert ours == pytest.approx(sum(oracles.focal_oracle(x, t == 1) for x, t in pairs), rel=1e-5)
    assert ours == pytest.approx(sigmoid_focal_loss(logits, target, reduction="sum").item(), rel=1e-5)
    # By hand: p = 1/2, an object: .25 * .5^2 * ln 2; none: .75 * .5^2 * ln 2.
    assert set_loss.focal(torch.zeros(1), torch.ones(1)).item() == pytest.approx(math.log(2) / 16)
    assert set_loss.focal(torch.zeros(1), torch.zeros(1)).item() == pytest.approx(math.log(2) * 3 / 16)


def test_box_terms_by_hand():
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.2, 0.2, 0.2, 0.2]]])
    targets = [torch.tensor([[0.2, 0.2, 0.2, 0.4]])]
    pairs = [(torch.tensor([1]), torch.tensor([0]))]
    l1, giou = set_loss.box_terms(boxes, targets, pairs, 2)
    assert l1.item() == pytest.approx(0.1)
    assert giou.item() == pytest.approx(0.25)
    ours, theirs = set_loss.matched_boxes(boxes, targets, pairs)
    assert (ours - boxes[0, 1:]).abs().max() == (theirs - targets[0]).abs().max() == 0

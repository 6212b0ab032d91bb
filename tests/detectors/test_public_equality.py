"""Our Deformable DETR is the public one: transformers' on the same weights, forward and backward."""

import copy

import pytest
import torch

from proseco.nn.backbone import normalise
from proseco.nn.set_loss import set_loss
from proseco.weights import huggingface
from tests import references

REFINED = {"box_refinement": True}
VARIANTS = [a | b for a in ({"levels": 1}, {"levels": 4}) for b in ({}, REFINED, REFINED | {"two_stage": True})]


def ours(model, batch):
    """Outputs, terms of the set loss, and the gradients of all parameters and of the images, in transformers' names."""
    images = normalise(batch.views[0], batch.mask).requires_grad_()
    out = model.decode(model.backbone[0](images), batch.mask)
    terms = set_loss(out, batch.targets(), model.weights)
    backward(out, terms)
    grads = huggingface.rename({name: p.grad for name, p in model.named_parameters(remove_duplicate=False)})
    return out, terms, references.without_copies(grads) | {"images": images.grad}


def reference(theirs, batch, weights):
    images = normalise(batch.views[0], batch.mask).to(theirs.dtype).requires_grad_()
    targets = [{"labels": t["labels"], "boxes": t["boxes"].to(theirs.dtype)} for t in batch.targets()]
    out = references.outputs(theirs, images, batch.mask, targets)
    terms = references.set_loss(out, targets, weights)
    backward(out, terms)
    return out, terms, references.gradients(theirs) | {"images": images.grad}


def backward(out, terms):
    """Of the set loss, and of a sum that weighs every output of every layer differently."""
    draws = torch.Generator().manual_seed(3)
    total = sum(terms.values())
    for name in ("logits", "boxes"):
        total = total + (torch.randn(out[name].shape, generator=draws).to(out[name]) * out[name]).sum()
    total.backward()


def check_outputs(mine, other):
    (out, terms, _), (expected, reference_terms, _) = mine, other
    assert ("encoder" in out) == ("encoder" in expected)
    pairs = [(out, expected)] + ([(out["encoder"], expected["encoder"])] if "encoder" in out else [])
    for name in ("logits", "boxes"):
        assert all(torch.allclose(a[name], b[name], rtol=0, atol=1e-4) for a, b in pairs), name
    assert {k: v.item() for k, v in terms.items()} == pytest.approx(
        {k: v.item() for k, v in reference_terms.items()}, 1e-5
    )


@pytest.mark.parametrize("stirred", [False, True], ids=["fresh", "stirred"])
@pytest.mark.parametrize("changes", VARIANTS, ids=lambda c: "-".join(f"{k}={v}" for k, v in c.items()))
def test_it_is_transformers_deformable_detr(changes, stirred, tmp_path):
    model, batch = references.detector(changes, stirred=stirred), references.batch()
    theirs = references.reference(model, changes, tmp_path)
    mine, other = ours(model, batch), reference(theirs, batch, model.weights)
    check_outputs(mine, other)
    gap, where = references.worst(mine[2], other[2])
    assert gap < 1e-3, where


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{}, REFINED, REFINED | {"two_stage": True}], ids=["plain", "refined", "two stages"]
)
def test_it_is_at_full_size(changes, tmp_path):
    """Gradients as near as rounding lets them be: a unit whose input is nearly 0 counts in one sum and not in another.

    So is transformers' own model in float32 from itself in float64, and by more than from ours.
    """
    body = {"block": "bottleneck", "layers": (3, 4, 6, 3), "stem": 64, "widths": (64, 128, 256, 512)}
    sizes = {"backbone": body, "width": 256, "heads": 8, "encoder_layers": 6, "decoder_layers": 6, "ffn": 1024}
    changes = sizes | {"levels": 4, "points": 4, "queries": 300, "num_classes": 91} | changes
    model = references.detector(changes, stirred=True, noise=0.01)
    batch = references.batch(((320, 416), (256, 300)), (3, 2), classes=91)
    theirs = references.reference(model, changes, tmp_path)
    exact = copy.deepcopy(theirs).double()
    mine, other, truth = ours(model, batch), *(reference(m, batch, model.weights) for m in (theirs, exact))
    check_outputs(mine, other)
    gap, where = references.worst(mine[2], other[2])
    rounding, _ = references.worst(other[2], truth[2])
    assert gap < max(1e-3, 1.01 * rounding), where  # both may be the same unit's, of whose sides ours took the true one
    assert references.distance(mine[2], other[2]) < 1e-3

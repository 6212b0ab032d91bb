"""Where boxes are pooled, torchvision's kernel pools them, though torch is asked for equal bits."""

import sys

import pytest
import torch

from tests.detectors import test_torchvision as conv
from tests.methods import test_patches, test_scrl, test_soco


def mask_rcnn():
    made = conv.batch()
    model = conv.detector("mask_rcnn")
    model.losses(made.views[0], made.mask, conv.targets(made))
    model.eval().detect(made.views[0], made.mask, made.sizes)


def patches():
    view, mask = test_patches.padded([test_patches.picture()])
    test_patches._patches.crop(view, mask, [torch.tensor([[0.5, 0.5, 0.3, 0.4]])], 8)


def scrl():
    method = test_scrl.made()
    method.losses(test_scrl.batch(method))


def soco():
    given = {"canonical_size": 28.0, "projector": (20, 6), "steps": 50}
    method = test_soco.soco.build(conv.detector("mask_rcnn", num_classes=None), **test_soco.VIEWS, **given)
    method.losses(test_soco.batch(method))


@pytest.mark.parametrize("pool", [mask_rcnn, patches, scrl, soco])
def test_boxes_are_pooled_by_the_kernel(pool, monkeypatch):
    """torchvision asks for its kernels first, and takes them on a GPU only where equal bits are not asked for."""
    asked = []

    def has_ops():
        asked.append(torch.are_deterministic_algorithms_enabled())
        return True

    monkeypatch.setattr(sys.modules["torchvision.ops.roi_align"], "_has_ops", has_ops)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        pool()
        after = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert asked and not any(asked)
    assert after == (True, True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_cuts_out_what_a_cpu_does():
    view, mask = test_patches.padded([test_patches.picture()], right=11, below=6)
    boxes = [torch.tensor([[0.5, 0.5, 0.3, 0.4], [0.2, 0.4, 0.1, 0.1]])]
    truth = test_patches._patches.crop(view, mask, boxes, 32)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        found = test_patches._patches.crop(view.cuda(), mask.cuda(), [boxes[0].cuda()], 32)
    finally:
        torch.use_deterministic_algorithms(False)
    assert (found.cpu().int() - truth.int()).abs().max() <= 1

"""Crops on the device, against OpenCV's crop and resize; what the backbone says of them."""

import cv2
import numpy as np
import pytest
import torch

from proseco.methods import _patches
from tests import tiny

HEIGHT, WIDTH = 90, 120


def picture(seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)


def relative(corners):
    low, high = np.float32(corners[:2]), np.float32(corners[2:])
    return torch.tensor([*((low + high) / 2 / [WIDTH, HEIGHT]), *((high - low) / [WIDTH, HEIGHT])], dtype=torch.float32)


def padded(images, right=0, below=0):
    """Images of one size as (B, 3, H, W) with padding, and the mask."""
    view = torch.zeros(len(images), 3, HEIGHT + below, WIDTH + right, dtype=torch.uint8)
    mask = torch.ones(len(images), HEIGHT + below, WIDTH + right, dtype=torch.bool)
    for number, image in enumerate(images):
        view[number, :, :HEIGHT, :WIDTH] = torch.from_numpy(image).permute(2, 0, 1)
        mask[number, :HEIGHT, :WIDTH] = False
    return view, mask


@pytest.mark.parametrize(
    "corners", [(4, 10, 36, 20), (0, 0, 120, 90), (100, 70, 120, 90), (31, 2, 111, 82), (7, 5, 9, 6)]
)
@pytest.mark.parametrize("side", [8, 32])
def test_a_crop_is_cut_out_and_resized(corners, side):
    image = picture()
    view, mask = padded([image], right=11, below=6)
    (ours,) = _patches.crop(view, mask, [relative(corners)[None]], side)
    left, top, right, bottom = corners
    how = cv2.INTER_AREA if (right - left) * (bottom - top) > side * side else cv2.INTER_LINEAR
    theirs = cv2.resize(image[top:bottom, left:right], (side, side), interpolation=how)
    assert ours.shape == (3, side, side) and ours.dtype == torch.uint8
    apart = np.abs(ours.permute(1, 2, 0).numpy().astype(float) - theirs).mean()
    others = np.abs(np.float32(theirs)[:, ::-1] - theirs).mean()  # the same crop, mirrored
    assert apart < 4 and apart < others / 3


def test_padding_does_not_get_into_a_crop():
    images, boxes = [picture(1), picture(2)], [relative((60, 40, 120, 90))[None], relative((0, 0, 120, 90))[None]]
    plain = _patches.crop(*padded(images), boxes, 16)
    assert torch.equal(plain, _patches.crop(*padded(images, right=40, below=3), boxes, 16))
    assert plain.shape == (2, 3, 16, 16)


def test_crops_of_all_images_follow_each_other():
    view, mask = padded([picture(1), picture(2), picture(3)])
    one, two = relative((3, 4, 50, 60)), relative((40, 4, 50, 80))
    boxes = [torch.stack([one, two]), torch.zeros(0, 4), one[None]]
    found = _patches.crop(view, mask, boxes, 8)
    for row, (image, box) in enumerate([(0, one), (0, two), (2, one)]):
        alone = _patches.crop(view[image : image + 1], mask[:1], [box[None]], 8)
        assert torch.equal(found[row], alone[0])
    assert _patches.crop(view, mask, [torch.zeros(0, 4)] * 3, 8).shape == (0, 3, 8, 8)


def test_features_are_means_of_the_backbones_maps_of_the_crop():
    model = tiny.detector(num_classes=None)
    view, mask = padded([picture(1), picture(2)], right=8)
    boxes = [relative((3, 4, 50, 60))[None], relative((40, 4, 90, 80))[None]]
    found = _patches.pooled(model, view, mask, boxes, 32)
    crops = _patches.crop(view, mask, boxes, 32)
    assert [level.shape for level in found] == [(2, 12), (2, 16), (2, 24)]
    for number in range(2):
        levels = model.features(crops[number : number + 1], torch.zeros(1, 32, 32, dtype=torch.bool))
        for ours, level in zip(found, levels, strict=True):
            slow = [sum(row.sum().item() for row in channel) / channel.numel() for channel in level[0]]
            assert ours[number].tolist() == pytest.approx(slow, abs=1e-5)
    assert not any(level.requires_grad for level in found)

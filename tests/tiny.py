"""A detector of some thousand weights and batches of noise. Sizes differ from each other, so that a swap shows."""

import torch

from proseco.data.batch import Batch
from proseco.detectors import deformable_detr

BODY = {"block": "basic", "layers": (1, 1, 1, 1), "stem": 8, "widths": (8, 12, 16, 24)}
SIZES = {
    "num_classes": 5,
    "backbone": BODY,
    "width": 32,
    "heads": 4,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "ffn": 48,
    "dropout": 0.0,
    "levels": 3,
    "points": 3,
    "queries": 6,
}


def stir(module, seed=0, noise=0.1):
    """Move every weight: networks fresh from their initialisation are too regular to tell mistakes apart."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += noise * torch.randn(parameter.shape, generator=draws)
    return module


def detector(seed=0, **changes):
    """Deformable DETR in eval mode, the weights stirred."""
    torch.manual_seed(seed)
    return stir(deformable_detr.build(**(SIZES | changes)), seed).eval()


def batch(boxes=(3, 0, 2), *, views=2, height=64, width=96, classes=5, seed=0):
    """Noise images, the second padded by a quarter at the bottom and an eighth at the right; so many boxes in each."""
    draws = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (views, len(boxes), 3, height, width), dtype=torch.uint8, generator=draws)
    mask = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    mask[1:2, height * 3 // 4 :] = True
    mask[1:2, :, width * 7 // 8 :] = True
    images = images.masked_fill(mask[:, None], 0)
    centres = [torch.rand(n, 2, generator=draws) * 0.4 + 0.3 for n in boxes]
    sides = [torch.rand(n, 2, generator=draws) * 0.4 + 0.1 for n in boxes]
    return Batch(
        keys=[f"image{i}" for i in range(len(boxes))],
        views=images,
        mask=mask,
        boxes=[torch.cat(pair, 1) for pair in zip(centres, sides, strict=True)],
        labels=[torch.randint(0, classes, (n,), generator=draws) for n in boxes],
        sizes=torch.tensor([[width * 2, height * 3]] * len(boxes)),
    )

"""Proposals as a detector gives them: many crowd on few objects, and the student's resemble the teacher's."""

import torch
from torch import Tensor

OBJECTS = 12  # of an image


def draw(images: int, queries: int, dim: int, *, seed: int = 0) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(embeddings (B, N, D), L2-normalised; boxes (B, N, 4) cxcywh) of the teacher and, aligned, of the student.

    An image at a time, so that hardly more memory is touched than what is returned.
    """
    draws = torch.Generator().manual_seed(seed)
    sides = [(torch.empty(images, queries, dim), torch.empty(images, queries, 4)) for _ in range(2)]
    for image in range(images):
        objects = boxes_of_objects(draws)
        which = torch.randint(len(objects), (queries,), generator=draws)
        embeddings = torch.randn(len(objects), dim, generator=draws)[which]
        embeddings += 0.5 * torch.randn(queries, dim, generator=draws)
        boxes = shake(objects[which], 0.2, draws)
        for noise, (z, b) in zip((0.0, 0.3), sides, strict=True):
            moved = embeddings + noise * torch.randn(queries, dim, generator=draws)
            z[image] = torch.nn.functional.normalize(moved, dim=-1)
            b[image] = shake(boxes, noise / 5, draws)
    return sides[0], sides[1]


def boxes_of_objects(draws: torch.Generator, count: int = OBJECTS) -> Tensor:
    """Boxes of all sizes, more small than large: (count, 4) cxcywh."""
    sides = 0.04 + 0.5 * torch.rand(count, 2, generator=draws) ** 2
    centres = sides / 2 + (1 - sides) * torch.rand(count, 2, generator=draws)
    return torch.cat([centres, sides], -1)


def shake(boxes: Tensor, noise: float, draws: torch.Generator) -> Tensor:
    """Move and scale boxes by shares of their sides of that standard deviation. (n, 4) cxcywh -> (n, 4)."""
    centres, sides = boxes[:, :2], boxes[:, 2:]
    moved, scaled = noise * torch.randn(2, len(boxes), 2, generator=draws)
    return torch.cat([centres + moved * sides, sides * scaled.exp()], -1)

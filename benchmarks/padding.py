"""How much of a batch is padding, by chance and with steps grouped by size (``group_steps`` of a schedule).

    python -m benchmarks.padding --images DIR [--method proseco] [--batch 64] [--steps 128] [--pad-to 32]

The views of paper scale in params.yaml, of batches drawn as a training draws them: their sizes only, no image is read
but for its header. Each file stands for as many images of its size as it takes to fill the batches once, so that a
folder is a sample of a data set. Frames are counted as they are and with sides that are multiples of ``--pad-to``. The
last line has the padding of batches drawn one by one and of groups of 64, and the ratio of the pixels that a network
works on, of frames as they are.
"""

from pathlib import Path

import numpy as np

from benchmarks import _frames
from proseco.base import cli, params, plugins
from proseco.base.errors import InputError
from proseco.experiment import rows

GROUPS = (1, 4, 16, 64)  # steps; the first by chance, the last that of params.yaml


def main(*, images: str, method: str = "proseco", batch: int = 64, steps: int = 128, pad_to: int = 32) -> None:
    """Say how much of the batches of a pretraining is padding, for groups of 1, 4, 16 and 64 steps."""
    for name, value in (("batch", batch), ("steps", steps), ("pad-to", pad_to)):
        if value < 1:
            raise InputError(f"--{name} is {value}; it must be at least 1")
    settings = params.load()
    if method not in settings["methods"]:
        raise InputError(f"no method {method!r}; there are {', '.join(settings['methods'])} (params.yaml)")
    row = rows.row(settings, "paper", method)
    if "weak" not in plugins.keywords("methods", row.plugin):
        raise InputError(f"all views of {method!r} have one size: none of a batch is padding")
    weak = row.views["weak"]
    sizes = _frames.sizes_of(Path(images))
    print(f"{len(sizes)} sizes, {steps} batches of {batch}, seed 0; pixels: of a batch over its images")
    print(f"{'':13} {'frames as they are':>27}   multiples of {pad_to}")
    print(f"{'steps a group':>13}" + 2 * f" {'padding':>8} {'pixels':>10} {'sizes':>7}")
    shares = {}
    for group in GROUPS:
        frames = _frames.draw(sizes, weak, batch=batch, steps=steps, group=group)
        both = [measure(frames, pad_to=multiple) for multiple in (1, pad_to)]
        print(f"{group:13}" + "".join(f" {padding:8.1%} {pixels:10,.0f} {count:7,}" for padding, pixels, count in both))
        shares[group] = both[0]
    (chance, before, _), (padding, after, _) = shares[GROUPS[0]], shares[GROUPS[-1]]
    print(f"padding: by_chance {chance:.3f} grouped {padding:.3f} pixel_ratio {before / after:.2f}")


def measure(frames: np.ndarray, *, pad_to: int) -> tuple[float, float, int]:
    """Share of all pixels that is padding, pixels per image, and how many sizes of a batch's frame there are.

    :param frames: (steps, batch, 2), width and height of the views of each batch.
    """
    whole = -(-frames.max(1) // pad_to) * pad_to
    pixels = whole.prod(1).sum() * frames.shape[1]
    return 1 - frames.prod(2).sum() / pixels, pixels / frames[..., 0].size, len(np.unique(whole, axis=0))


if __name__ == "__main__":
    cli.run(main)

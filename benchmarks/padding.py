"""How much of a batch is padding, by chance and with steps grouped by size (``group_steps`` of a schedule).

    python -m benchmarks.padding --images DIR [--method proseco] [--batch 64] [--steps 128]

The views of paper scale in params.yaml, of batches drawn as a training draws them: their sizes only, no image is read
but for its header. Each file stands for as many images of its size as it takes to fill the batches once, so that a
folder is a sample of a data set. The last line has the padding of batches drawn one by one and of groups of 64, and the
ratio of the pixels that a network works on.
"""

from pathlib import Path

from benchmarks import _frames
from proseco.base import cli, params, plugins
from proseco.base.errors import InputError
from proseco.experiment import rows

GROUPS = (1, 4, 16, 64)  # steps; the first by chance, the last that of params.yaml


def main(*, images: str, method: str = "proseco", batch: int = 64, steps: int = 128) -> None:
    """Say how much of the batches of a pretraining is padding, for groups of 1, 4, 16 and 64 steps."""
    for name, value in (("batch", batch), ("steps", steps)):
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
    print(f"{'steps a group':>13} {'padding':>8} {'pixels':>10}")
    found = {group: measure(sizes, weak, batch, steps, group) for group in GROUPS}
    for group, (padding, pixels) in found.items():
        print(f"{group:13} {padding:8.1%} {pixels:10,.0f}")
    (chance, before), (padding, after) = found[GROUPS[0]], found[GROUPS[-1]]
    print(f"padding: by_chance {chance:.3f} grouped {padding:.3f} pixel_ratio {before / after:.2f}")


def measure(sizes: list[tuple[int, int]], weak: dict, batch: int, steps: int, group: int) -> tuple[float, float]:
    """Share of all pixels that is padding, and pixels an image.

    :param sizes: width and height of the stored images; ``weak``: keywords of T1.
    """
    frames = _frames.draw(sizes, weak, batch=batch, steps=steps, group=group)
    whole = frames.max(1).prod(1).sum() * batch
    return 1 - frames.prod(2).sum() / whole, whole / (batch * steps)


if __name__ == "__main__":
    cli.run(main)

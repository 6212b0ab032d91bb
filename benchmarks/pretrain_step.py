"""A whole step of ProSeCo's pretraining against the same step made of the public pieces, and what its parts take.

    python -m benchmarks.pretrain_step [--scale paper] [--batch 64] [--height 480 --width 640 | --images DIR]
        [--peer-batch 16] [--ours-alone]

The detector, method and losses of params.yaml (row proseco) on images of noise, from bytes on the host to updated
weights and teacher. Their frames are all of one size, or those of the views of a folder's images, batched as a training
batches them. The peer is the same step in float32 with the public core of deformable attention (one
``grid_sample`` a level), the backbone's norms beside its convolutions and maps in PyTorch's own order, LocSCE with a
table of all pairs at each step, and SciPy's assignment. Ours samples on a GPU as PROSECO_ATTENTION says, and compiles
its encoder where PROSECO_COMPILE is 1.

``--peer-batch`` gives the peer so many images of each batch, where its tables do not fit the device; an image then has
fewer negatives. A peer that runs out of memory all the same is left out. Both run in turn in the same process, ours
first every other time, in float32 without TF32 or as ``--precision`` says.

Then parts are timed, each step of ours once more with a halt before and after each: shares are of their sum, and a
backward pass belongs to none but its own. Arithmetic is what torch counts of matrix products and convolutions, backward
included and sampling left out; the rate beside it is of the square matrix product that is fastest here. The last line
has the ratio of images a second.
"""

from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from benchmarks import _frames, _steps
from benchmarks.locsce import plain as plain_loss
from proseco.base import cli, params, plugins
from proseco.base.errors import InputError
from proseco.data.batch import Batch
from proseco.experiment import rows
from proseco.methods import proseco as method_file
from proseco.training import devices
from proseco.training.schedules import Schedule


def main(
    *,
    scale: str = "paper",
    device: str = "auto",
    precision: str = "auto",
    batch: int | None = None,
    height: int = 480,
    width: int = 640,
    images: str | None = None,
    steps: int = 12,
    ours_alone: bool = False,
    peer_batch: int | None = None,
) -> None:
    """Time a step of the pretraining, ours and the public pieces', and its parts."""
    settings = params.load()
    if scale not in settings["scales"]:
        raise InputError(f"no scale {scale!r}; there are {', '.join(settings['scales'])} (params.yaml)")
    row = rows.row(settings, scale, "proseco")
    batch = row.pretrain["schedule"]["batch"] if batch is None else batch
    counts = {"batch": batch, "height": height, "width": width, "steps": steps}
    if peer_batch is not None and (ours_alone or peer_batch > batch):
        why = "there is no peer with --ours-alone" if ours_alone else f"the peer takes it of a batch of {batch}"
        raise InputError(f"--peer-batch is {peer_batch}; {why}")
    peer_batch = batch if peer_batch is None else peer_batch
    for name, value in (counts | {"peer-batch": peer_batch}).items():
        if value < 1:
            raise InputError(f"--{name} is {value}; it must be at least 1")
    where = devices.pick_device(device, "--device")
    kind = devices.pick_precision(precision, where, "--precision")
    devices.prepare(where)
    if images:
        group, pad_to = (row.pretrain["schedule"].get(key, 1) for key in ("group_steps", "pad_to"))
        sizes, weak = _frames.sizes_of(Path(images)), row.views["weak"]
        frames = _frames.draw(sizes, weak, batch=batch, steps=max(steps, group), group=group)[:steps]
    else:
        frames, pad_to = np.tile([width, height], (2, batch, 1)), 1
    boxes = row.pretrain["method"]["boxes"]
    batches = {"ours": [_steps.draw(sizes, boxes, where, pad_to=pad_to) for sizes in frames]}
    trainer = build(row, batch, where)
    forms = {"ours": partial(trainer.step, precision=kind)}
    if not ours_alone:
        forms["public"] = partial(public, partial(trainer.step, precision=torch.float32))
        batches["public"] = batches["ours"]
        if peer_batch != batch:
            batches["public"] = [_steps.draw(sizes[:peer_batch], boxes, where, pad_to=pad_to) for sizes in frames]
    _steps.warm(forms, batches)
    seconds, peaks = _steps.compare(forms, batches, steps, where)
    mine = batches["ours"]
    padding = float(torch.cat([each.mask.flatten() for each in mine]).float().mean())
    _steps.say_where(where)
    print(f"batches of {batch}, {_size(frames)}, padding {padding:.1%}")
    work, rate = _steps.arithmetic(forms["ours"], mine[0]), _steps.matrix_rate(where, kind)
    print(f"median of {steps} steps; the matrix product's rate: {rate / 1e12:.3f} TFLOP/s in {kind}")
    rates = _steps.report(seconds, peaks, batches, work, rate)
    print(f"{'part of ours':14} {'share':>6}")
    for name, share in trainer.shares(mine, kind, _places(trainer.method)).items():
        print(f"{name:14} {share:6.1%}")
    if "public" in rates:
        print(f"pretrain_step: speedup {rates['ours'] / rates['public']:.2f}")


def build(row: rows.Row, batch: int, device: torch.device) -> _steps.Trainer:
    """ProSeCo's method over a detector with random weights."""
    torch.manual_seed(0)
    schedule = Schedule(**row.pretrain["schedule"] | {"batch": batch})
    detector = plugins.call("detectors", row.detector, num_classes=None, place="detector").to(device)
    known = plugins.keywords("methods", "proseco")
    options = {key: value for key, value in row.loss.items() if key != "name"}
    of_loss = set(plugins.keywords("losses", row.loss["name"]))
    loss = partial(plugins.load("losses", row.loss["name"]), **{key: options[key] for key in of_loss & set(options)})
    given = {key: value for key, value in (row.views | options).items() if key in known} | {"loss": loss}
    return _steps.Trainer(method_file.build(detector, **row.pretrain["method"], **given), schedule, device)


def _places(method: method_file.ProSeCo) -> list[tuple]:
    found = [(method, "features", "backbone"), (method, "match", "matching"), (method, "contrast", "losses")]
    for who in (method.teacher, method.student):
        found += _steps.transformer_places(who.detector)
    return found


def public(step, batch: Batch) -> None:
    """A step with the public pieces in the place of ours."""
    with _steps.public_pieces(), mock.patch.object(method_file.ProSeCo, "contrast", _contrast_plainly):
        step(batch)


_contrast = method_file.ProSeCo.contrast


def _contrast_plainly(self, teacher, student, aligned, box_pairs, batch):
    """:meth:`proseco.methods.proseco.ProSeCo.contrast` with the table of all pairs."""

    def loss(z, z_hat, boxes, *, anchors):
        return plain_loss(z, z_hat, boxes)

    with mock.patch.object(self, "loss", loss):
        return _contrast(self, teacher, student, aligned, box_pairs, batch)


def _size(frames: np.ndarray) -> str:
    width, height = frames.reshape(-1, 2).T
    if len({*width.tolist()}) == len({*height.tolist()}) == 1:
        return f"{width[0]} x {height[0]}"
    return f"{width.min()} to {width.max()} x {height.min()} to {height.max()}"


if __name__ == "__main__":
    cli.run(main)

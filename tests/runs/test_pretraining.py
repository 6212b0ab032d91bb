"""A pretraining from shards to checkpoint by a method that predicts no boxes and trains the backbone: SoCo."""

import contextlib
import io
import shutil
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from proseco.base import files, plugins
from proseco.base.errors import InputError
from proseco.base.randomness import seed as derive_seed
from proseco.methods import soco
from proseco.nn.backbone import ResNet
from proseco.runs import pretraining
from proseco.weights import checkpoint
from tests import making, tiny

BODY = {"block": "basic", "layers": [1, 1, 1, 1], "stem": 8, "widths": [8, 12, 16, 24]}
DETECTOR = {"name": "mask_rcnn", "backbone": BODY, "channels": 16, "box_width": 24}
METHOD = {"name": "soco", "side": 64, "projector": [24, 8], "scratch": False, "first": {}, "second": {}}
METHOD |= {"canonical_size": 28.0, "filter": {"min_side": 8, "aspect": None, "size": None, "limit": None}}
SCHEDULE = {"batch": 4, "lr": 0.05, "lr_backbone": 0.02, "steps": 5, "optimizer": "sgd", "clip": None, "log_every": 1}
PLAN = {"method": METHOD, "detector": DETECTOR, "schedule": SCHEDULE, "loss": None, "views": {}, "pictures": None}
PLAN |= {"seed": 0, "precision": "float32", "data": "main"}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Shards of nine images, and a backbone."""
    folder = tmp_path_factory.mktemp("soco")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(9):
        pixels = rng.integers(0, 256, (70 + 3 * number, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    making.write(folder / "shards", folder / "images")
    torch.manual_seed(0)
    network = tiny.stir(ResNet(**BODY, num_classes=3))
    state = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    checkpoint.save(folder / "backbone.safetensors", {"backbone": state}, {})
    return folder / "shards", folder / "backbone.safetensors"


def run(given, folder, **changes):
    for name in ("results", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    out, results = folder / "soco.safetensors", folder / "results"
    plan = PLAN | changes
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        pretraining.run(plan, *given, out, results, device="cpu", scratch=folder / "scratch", title="soco")
    return out, results


def test_from_shards_to_a_finetuned_detector(given, tmp_path, monkeypatch):
    build, made = pretraining._build, []
    monkeypatch.setattr(pretraining, "_build", lambda *options: made.append(build(*options)) or made[0])
    out, results = run(given, tmp_path)
    sheet = np.asarray(Image.open(results / "boxes.png").convert("RGB"))
    assert sheet.shape[0] > 0.6 * sheet.shape[1]  # three views of four images
    assert files.read_json(results / "metrics.json") == {"steps": 5}
    student, teacher = (checkpoint.load(out, name) for name in ("student", "teacher"))
    for network, state in made[0].state_dicts().items():
        saved = {"student": student, "teacher": teacher}[network]
        assert all(torch.equal(saved[name], value) for name, value in state.items())
    before = checkpoint.load(given[1], "backbone")
    moved = [name for name, value in before.items() if (student.get(f"backbone.body.{name}", value) != value).any()]
    assert {"conv1.weight", "bn1.weight", "bn1.running_mean", "layer4.0.bn2.running_var"} <= set(moved)
    assert any((student[name] != teacher[name]).any() for name in student)
    detector = plugins.call("detectors", DETECTOR, num_classes=3)
    checkpoint.load_into(detector, student, source="", new=detector.head_prefixes, unused=())
    assert torch.equal(
        detector.state_dict()["backbone.fpn.inner_blocks.0.0.weight"], student["backbone.fpn.inner_blocks.0.0.weight"]
    )


def test_what_is_recorded_is_what_was_trained_on(given, tmp_path, monkeypatch):
    """Not a file that took its place meanwhile."""
    shutil.copytree(given[0], tmp_path / "shards")
    shutil.copy(given[1], tmp_path / "backbone.safetensors")
    fit = pretraining.fit

    def meanwhile(*arguments, **options):
        (tmp_path / "backbone.safetensors").write_bytes(b"another")
        (tmp_path / "shards/summary.json").unlink()
        return fit(*arguments, **options)

    monkeypatch.setattr(pretraining, "fit", meanwhile)
    _, results = run((tmp_path / "shards", tmp_path / "backbone.safetensors"), tmp_path)
    inputs = files.read_json(results / "run.json")["inputs"]
    assert inputs == {"shards": files.digest(given[0] / "summary.json"), "backbone": files.digest(given[1])}


def test_a_rate_for_a_backbone_that_stays_as_it_is(given, tmp_path, monkeypatch):
    """run.json would tell of it, and nothing would have been trained with it."""
    build = plugins.call

    def fixed(kind, *arguments, **options):
        made = build(kind, *arguments, **options)
        if kind == "methods":
            made.student.encoder.backbone.body.requires_grad_(False)
        return made

    monkeypatch.setattr(plugins, "call", fixed)
    with pytest.raises(InputError, match=r"schedule\.lr_backbone is 0\.02, but soco keeps the backbone as it is"):
        run(given, tmp_path / "rate")
    run(given, tmp_path / "none", schedule=SCHEDULE | {"lr_backbone": 0.0})


def test_a_kill_changes_nothing(given, tmp_path, monkeypatch):
    whole, _ = run(given, tmp_path / "whole")
    monkeypatch.setenv("PROSECO_CHECKPOINT_EVERY", "1")
    after_step, calls = soco.SoCo.after_step, []

    def killed(self):
        after_step(self)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(soco.SoCo, "after_step", killed)
    with pytest.raises(KeyboardInterrupt):
        run(given, tmp_path / "two")
    again, _ = run(given, tmp_path / "two")
    assert len(calls) == 3 + 3  # the third step was not saved
    assert whole.read_bytes() == again.read_bytes()


def test_pictures_come_at_the_same_steps_in_all_processes(given, tmp_path, monkeypatch):
    """All wait for the state before each, though only the first looks."""
    found = []
    for rank in (0, 1):
        monkeypatch.setattr(pretraining.distributed, "rank", lambda rank=rank: rank)
        fit = mock.Mock(side_effect=KeyboardInterrupt)
        monkeypatch.setattr(pretraining, "fit", fit)
        with pytest.raises(KeyboardInterrupt):
            run(given, tmp_path, pictures=3)
        found.append(fit.call_args.kwargs["at_step"])
    first, second = found
    assert set(first) == set(second) == {0, 2, 5} and {look(2) for look in second.values()} == {None}


def test_the_loop_is_given_what_the_plan_says(given, tmp_path, monkeypatch):
    fit = mock.Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr(pretraining, "fit", fit)
    weak = {"short_edges": [40], "long_edge": 96, "first_short_edges": [48], "crop_min": 32, "crop_max": 40}
    proseco = {"method": {"name": "proseco", "projector": [20, 12]}, "loss": {"name": "locsce", "delta": 0.3}}
    proseco["detector"] = {"name": "deformable_detr"} | {k: v for k, v in tiny.SIZES.items() if k != "num_classes"}
    proseco |= {"views": {"weak": weak, "strong": {"blur_probability": 0.3}}, "seed": 8}
    proseco["schedule"] = SCHEDULE | {"micro_batch": 2, "group_steps": 3, "pad_to": 8, "lr_backbone": 0.0}
    calls = []
    for changes in (proseco, {"schedule": SCHEDULE | {"steps": 6}}):
        with pytest.raises(KeyboardInterrupt):
            run(given, tmp_path, **changes)
        calls.append(fit.call_args)
    method, batches = calls[0].args[:2]
    assert (method.transform.weak, method.transform.strong) == (weak, {"blur_probability": 0.3})
    assert method.loss.keywords == {"delta": 0.3} and method.micro_batch == 2
    assert (batches.keywords["group"], batches.keywords["pad_to"]) == (3, 8)
    body, wanted = method.backbone[0].body.state_dict(), checkpoint.load(given[1], "backbone")
    assert all(torch.equal(value, wanted[name]) for name, value in body.items())
    assert [call.kwargs["seed"] for call in calls] == [derive_seed(seed, "pretrain") for seed in (8, 0)]
    assert calls[1].args[0].teacher.steps == 6

"""A start without pretraining is the backbone alone, and finetuning draws the rest."""

import json
import subprocess
import sys

import pytest
import torch

from proseco.base.errors import InputError
from proseco.base.plugins import load
from proseco.nn.backbone import ResNet
from proseco.runs.finetuning import load_start
from proseco.weights import backbone, checkpoint, start
from tests import tiny


@pytest.fixture
def made(tmp_path):
    """A file of stage ``backbone``, and its weights."""
    torch.manual_seed(0)
    state = tiny.stir(ResNet(**tiny.BODY, num_classes=6)).state_dict()
    state = {name: value for name, value in state.items() if "num_batches_tracked" not in name}
    assert "fc.weight" in state
    checkpoint.save(tmp_path / "backbone.safetensors", {"backbone": state}, {"backbone": "supervised"})
    return tmp_path, state


@pytest.mark.parametrize("network", ["student", "teacher"])
@pytest.mark.parametrize("changes", [{}, {"levels": 4, "box_refinement": True, "two_stage": True}])
def test_finetuning_begins_with_the_backbone_and_a_new_detector(made, network, changes):
    folder, state = made
    start.write(folder / "start.safetensors", folder / "backbone.safetensors", folder / "results")
    model = tiny.detector(**changes)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_start(model, folder / "start.safetensors", network)
    assert not torch.equal(model.backbone[0].body.conv1.weight, before[f"{start.BODY}conv1.weight"])
    for name, value in model.state_dict().items():
        if name.startswith(start.BODY):
            assert torch.equal(value, state[name.removeprefix(start.BODY)]), name
        else:
            assert torch.equal(value, before[name]), name


def test_it_holds_student_and_teacher_and_no_classifier(made):
    folder, state = made
    start.write(folder / "start.safetensors", folder / "backbone.safetensors", folder / "results")
    for network in ("student", "teacher"):
        weights = checkpoint.load(folder / "start.safetensors", network)
        names = {f"{start.BODY}{name}" for name in state if not name.startswith("fc.")}
        assert set(weights) == names
    metrics = json.loads((folder / "results" / "metrics.json").read_text())
    assert metrics == {"steps": 0}
    run = json.loads((folder / "results" / "run.json").read_text())
    assert run["method"] is None
    assert len(run["backbone"]) == 32


def test_a_backbone_file_that_cannot_be_read(made):
    folder, state = made
    path = folder / "backbone.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"cannot read checkpoint '.*backbone\.safetensors'"):
        start.write(folder / "a", path, folder / "results")
    checkpoint.save(path, {"backbone": {name: value.bfloat16() for name, value in state.items()}}, {})
    with pytest.raises(InputError, match=r"cannot read checkpoint '.*backbone\.safetensors'"):
        start.write(folder / "a", path, folder / "results")
    assert not (folder / "a").exists()


def test_equal_bytes_twice(made):
    folder, _ = made
    for name in ("a", "b"):
        start.write(folder / name, folder / "backbone.safetensors", folder / "results")
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


def test_a_backbone_of_another_detector_is_named(made):
    folder, _ = made
    start.write(folder / "start.safetensors", folder / "backbone.safetensors", folder / "results")
    model = tiny.detector(backbone=tiny.BODY | {"widths": (8, 12, 16, 32)})
    with pytest.raises(InputError, match=r"start\.safetensors' does not fit the detector: \d+ of another shape"):
        load_start(model, folder / "start.safetensors", "student")


def test_a_pretrained_detector_of_another_shape_is_named(tmp_path):
    model = tiny.detector(num_classes=None)
    checkpoint.save(tmp_path / "a", {"student": model.state_dict()}, {})
    load_start(tiny.detector(seed=1), tmp_path / "a", "student")
    with pytest.raises(InputError, match=r"1 of another shape \(query_embed\.weight\)"):
        load_start(tiny.detector(queries=9), tmp_path / "a", "student")
    with pytest.raises(InputError, match=r"unexpected \(transformer\.encoder\.layers\.0\."):
        load_start(tiny.detector(encoder_layers=0), tmp_path / "a", "student")


def test_the_imported_backbone_is_what_starts(tmp_path):
    """A public file through all of its stations."""
    torch.manual_seed(0)
    network = tiny.stir(ResNet(**tiny.BODY, num_classes=6)).eval()
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, tmp_path / "public.pth")
    checkpoint.save(tmp_path / "backbone", {"backbone": backbone.read(tmp_path / "public.pth")}, {})
    start.write(tmp_path / "start", tmp_path / "backbone", tmp_path / "results")
    model = tiny.detector()
    load_start(model, tmp_path / "start", "student")
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        deepest = model.backbone[0](images)[-1]
        logits = network.fc(deepest.mean((2, 3)))
        assert torch.allclose(logits, network(images), atol=1e-4)


def test_it_needs_no_torch():
    code = "import sys, proseco.weights.start; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", ["mask_rcnn", "faster_rcnn", "fcos"])
def test_the_backbone_goes_where_a_detector_has_it(made, name):
    folder, state = made
    start.write(folder / "start.safetensors", folder / "backbone.safetensors", folder / "results")
    model = load("detectors", name)(num_classes=3, backbone=tiny.BODY, channels=64)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load_start(model, folder / "start.safetensors", "student")
    for key, value in model.state_dict().items():
        assert torch.equal(value, state.get(key.removeprefix("backbone.body."), before[key])), key
    assert not torch.equal(model.backbone.body.conv1.weight, before["backbone.body.conv1.weight"])


def test_a_pretrained_pyramid_and_box_head_are_taken_over(tmp_path):
    build = load("detectors", "mask_rcnn")
    pretrained = tiny.stir(build(num_classes=None, backbone=tiny.BODY, channels=64, box_width=24)).state_dict()
    checkpoint.save(tmp_path / "start", {"student": pretrained | {"projector.0.weight": torch.ones(2)}}, {})
    model = build(num_classes=3, backbone=tiny.BODY, channels=64, box_width=24)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    load_start(model, tmp_path / "start", "student")
    assert {"backbone.fpn.inner_blocks.0.0.weight", "roi_heads.box_head.fc6.weight"} < set(pretrained)
    for key, value in model.state_dict().items():
        assert torch.equal(value, pretrained.get(key, before[key])), key
    with pytest.raises(InputError, match=r"of another shape \(roi_heads\.box_head\.fc6"):
        load_start(build(num_classes=3, backbone=tiny.BODY, channels=64, box_width=32), tmp_path / "start", "student")

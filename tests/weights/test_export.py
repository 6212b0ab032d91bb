"""What is written is read by the programs it is for, and predicts the same there."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoImageProcessor, DeformableDetrForObjectDetection

from proseco.base.errors import InputError
from proseco.nn.backbone import MEAN, STD, normalise
from proseco.weights import architecture, detector, export, huggingface
from tests import references
from tests.public_files import ARGS

WIDE = {"block": "bottleneck", "layers": (2, 1, 2, 1), "stem": 8, "widths": (8, 12, 16, 24)}
VARIANTS = [
    {},
    {"box_refinement": True},
    {"box_refinement": True, "two_stage": True, "levels": 4},
    {"levels": 1, "backbone": WIDE},
    {"levels": 2, "decoder_layers": 1},
]
CLASSES = ["cat", "dog", "traffic light", "é", "cup"]


def written(folder, to, changes):
    model = references.detector(changes, stirred=True)
    entry = architecture.entry(model.state_dict(), {"args": ARGS}, place="")
    export.write(folder, to, model.state_dict(), detector=entry, classes=CLASSES)
    return model, entry


@pytest.mark.parametrize("changes", VARIANTS)
def test_transformers_predicts_the_same(changes, tmp_path):
    model, _ = written(tmp_path / "out", "transformers", changes)
    theirs, loading = DeformableDetrForObjectDetection.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(loading.values()), loading
    assert theirs.config.id2label == dict(enumerate(CLASSES))
    batch = references.batch()
    ours = model(batch.views[0], batch.mask)
    with torch.no_grad():
        out = theirs.eval()(normalise(batch.views[0], batch.mask), pixel_mask=(~batch.mask).long())
    assert torch.allclose(out.logits, ours["logits"][-1], rtol=0, atol=1e-4)
    assert torch.allclose(out.pred_boxes, ours["boxes"][-1], rtol=0, atol=1e-4)
    assert out.logits.std() > 0.5 and out.pred_boxes.std() > 0.1  # it says something


def test_transformers_writes_the_names_that_we_do(tmp_path):
    """So that a version that renames them in memory still finds them in files."""
    written(tmp_path / "ours", "transformers", {"levels": 4})
    theirs = DeformableDetrForObjectDetection.from_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    ours, saved = (load_file(tmp_path / name / "model.safetensors") for name in ("ours", "theirs"))
    copies = {name for name in ours if name.startswith(("class_embed.1", "bbox_embed.1"))}  # tied, which it leaves out
    assert set(ours) - copies == set(saved)
    assert all(torch.equal(value, ours[name]) for name, value in saved.items())


def test_transformers_prepares_images_as_we_do(tmp_path):
    written(tmp_path / "out", "transformers", {})
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    assert (tuple(processor.image_mean), tuple(processor.image_std)) == (MEAN, STD)
    image = torch.randint(0, 256, (3, 800, 900), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = processor(images=image, return_tensors="pt")
    ours = normalise(image[None], torch.zeros(1, 800, 900, dtype=torch.bool))
    assert torch.allclose(found["pixel_values"], ours, atol=1e-5)


def test_every_tensor_is_renamed_once():
    for changes in VARIANTS:
        state = references.detector(changes, stirred=False).state_dict()
        renamed = huggingface.rename(state)
        packed = sum(key.endswith(("in_proj_weight", "in_proj_bias")) for key in state)
        assert len(renamed) == len(state) + 2 * packed
        assert sum(value.numel() for value in renamed.values()) == sum(value.numel() for value in state.values())
        assert not any("transformer." in key or ".body." in key for key in renamed)


@pytest.mark.parametrize("changes", VARIANTS[:3])
def test_a_public_file_is_a_state_dict_in_a_wrapper(changes, tmp_path):
    model, entry = written(tmp_path / "out.pth", "deformable_detr", changes)
    content = torch.load(tmp_path / "out.pth", weights_only=True)
    assert list(content) == ["model", "args"]
    model.load_state_dict(content["model"])  # strict
    read = detector.read(tmp_path / "out.pth")
    assert architecture.entry(read.state, read.facts, place="") == entry  # all of it, heads among it
    found = read.state
    assert found.keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in found.items())


def test_safetensors_has_its_facts_in_json(tmp_path):
    model, entry = written(tmp_path / "out.safetensors", "safetensors", {"box_refinement": True})
    state = load_file(tmp_path / "out.safetensors")
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in state.items())
    facts = json.loads((tmp_path / "out.json").read_text())
    assert facts == {"detector": entry, "classes": CLASSES}
    assert detector.read(tmp_path / "out.safetensors").facts == facts
    first = (tmp_path / "out.safetensors").read_bytes()
    written(tmp_path / "out.safetensors", "safetensors", {"box_refinement": True})
    assert (tmp_path / "out.safetensors").read_bytes() == first


def test_an_unknown_format(tmp_path):
    with pytest.raises(InputError, match="no format named 'onnx'; there is deformable_detr, safetensors, transformers"):
        export.write(tmp_path / "x", "onnx", {}, detector={}, classes=None)

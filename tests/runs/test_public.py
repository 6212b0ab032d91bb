"""A row whose detector comes from a file, through the stations of the pipeline; class heads of another size."""

import json
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from proseco.base.errors import InputError
from proseco.runs import public
from proseco.runs.finetuning import load_start
from proseco.weights import architecture, checkpoint
from stages import backbone, plan, pretrain
from tests import params_file, public_files, tiny

ROOT = Path(__file__).resolve().parents[2]

REFINED = {"box_refinement": True}
STAGED = REFINED | {"two_stage": True}


def public_file(path, model, **options):
    torch.save(public_files.detreg(model, prefix="module.", **options), path)
    return path


def run(folder, path, changes, **choice):
    sizes = {key: value for key, value in (tiny.SIZES | changes).items() if key != "num_classes"}
    settings = {"detector": {"name": "deformable_detr", **sizes}, "checkpoint": {"checkpoint": str(path), **choice}}
    results = folder / "results"
    public.run(settings, folder / "start.safetensors", results)
    return folder / "start.safetensors", results


@pytest.mark.parametrize("changes", [{}, REFINED, STAGED], ids=["plain", "refined", "two stages"])
def test_finetuning_begins_with_the_public_detector_and_a_new_head(tmp_path, changes):
    theirs = tiny.detector(seed=1, **changes)
    start, results = run(tmp_path, public_file(tmp_path / "detreg.pth", theirs), changes)
    for network in ("student", "teacher"):
        model = tiny.detector(seed=2, num_classes=7, **changes)
        head = model.class_embed[0].weight.clone()
        load_start(model, start, network)
        for name, value in model.state_dict().items():
            if not name.startswith(model.head_prefixes):
                assert torch.equal(value, theirs.state_dict()[name]), name
        assert torch.equal(model.class_embed[0].weight, head)
    facts = json.loads((results / "run.json").read_text())
    assert (facts["classes"], facts["left"]) == (5, "feature_embed (2), optimizer (3)")
    assert len(facts["digest"]) == 32
    assert json.loads((results / "metrics.json").read_text())["steps"] == 0


def test_one_of_our_own_networks_can_be_chosen(tmp_path):
    states = {"student": tiny.detector().state_dict(), "teacher": tiny.detector(seed=1, num_classes=None).state_dict()}
    checkpoint.save(tmp_path / "ours.safetensors", states, {})
    start, _ = run(tmp_path, tmp_path / "ours.safetensors", {}, network="teacher")
    loaded = checkpoint.load(start, "student")
    assert loaded.keys() == states["teacher"].keys()
    assert all(torch.equal(value, states["teacher"][name]) for name, value in loaded.items())


def test_a_detector_that_is_not_the_scales_is_refused(tmp_path):
    path = public_file(tmp_path / "detreg.pth", tiny.detector(**REFINED))
    with pytest.raises(
        InputError, match=r"detreg\.pth' does not fit the detector: 12 unexpected \(transformer\.decoder"
    ):
        run(tmp_path, path, {})
    with pytest.raises(InputError, match=r"\d+ missing \(transformer\.encoder\.layers\.1.*\d+ of another shape"):
        run(tmp_path, path, REFINED | {"encoder_layers": 2, "ffn": 40})
    # 12 = 4 heads x 3 points = 2 heads x 6 points: the same shapes, another network
    with pytest.raises(InputError, match=r"is of 4 heads; detector\.heads is 2 \(params\.yaml\)"):
        run(tmp_path, path, REFINED | {"heads": 2, "points": 6})
    assert not (tmp_path / "start.safetensors").exists()


def test_looking_names_every_difference(tmp_path):
    made = public_files.content(tiny.detector())
    state = made["model"]
    state["transformer.odd"] = torch.ones(2)
    del state["transformer.decoder.layers.1.norm2.bias"]
    state["input_proj.1.0.bias"] = torch.ones(7)
    state["class_embed.1.bias"] += 1
    torch.save(made, tmp_path / "x.pth")
    content = public.look(tmp_path / "x.pth")
    assert content.differences == {
        "missing": ["transformer.decoder.layers.1.norm2.bias"],
        "unexpected": ["transformer.odd"],
        "of another shape": ["input_proj.1.0.bias"],
        "untied": ["class_embed.1.bias"],
    }
    with pytest.raises(InputError, match=r"1 missing .* 1 unexpected .* 1 of another shape .* 1 untied"):
        public.load(tmp_path / "x.pth", content)


@pytest.mark.parametrize("changes", [{}, STAGED], ids=["plain", "two stages"])
def test_a_class_head_of_another_size_is_said_and_drawn_on_request(tmp_path, changes):
    theirs = tiny.detector(seed=1, **changes)
    path = public_file(tmp_path / "x.pth", theirs)
    content = public.look(path)
    assert content.classes == 5
    with pytest.raises(InputError, match=r"x\.pth' has a class head of 5 classes, not of 9; --new-head draws one"):
        public.load(path, content, classes=9)
    loaded = public.load(path, content, classes=9, new_head=True)
    heads = [name for name in theirs.state_dict() if "class_embed" in name]
    assert loaded.new == heads
    assert set(loaded.left) == {*heads, *content.found.other_names}
    assert loaded.model.class_embed[0].weight.shape == (9, 32)
    assert loaded.classes == [f"LABEL_{index}" for index in range(9)]
    again = public.load(path, content, classes=9, new_head=True).model.state_dict()
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, again[name]), name  # drawn from a seed
        assert name in heads or torch.equal(value, theirs.state_dict()[name])


def test_the_files_own_head_is_kept_or_replaced(tmp_path):
    theirs = tiny.detector(seed=1)
    facts = {"detector": architecture.entry(theirs.state_dict(), {}, heads=4, place=""), "classes": list("abcde")}
    checkpoint.save(tmp_path / "ours", {"detector": theirs.state_dict()}, facts)
    (tmp_path / "ours").rename(tmp_path / "ours.safetensors")
    content = public.look(tmp_path / "ours.safetensors")
    kept = public.load(tmp_path / "ours.safetensors", content)
    assert (kept.classes, kept.new, kept.left) == (list("abcde"), [], [])
    assert torch.equal(kept.model.class_embed[0].weight, theirs.class_embed[0].weight)
    new = public.load(tmp_path / "ours.safetensors", content, new_head=True)
    assert new.classes[0] == "LABEL_0" and len(new.classes) == 5
    assert not torch.equal(new.model.class_embed[0].weight, theirs.class_embed[0].weight)


def test_a_pretrained_detector_has_no_class_head(tmp_path):
    checkpoint.save(tmp_path / "x.safetensors", {"student": tiny.detector(num_classes=None).state_dict()}, {})
    content = public.look(tmp_path / "x.safetensors", heads=4)
    loaded = public.load(tmp_path / "x.safetensors", content)
    assert content.classes is None and loaded.classes is None
    with pytest.raises(InputError, match=r"has no class head, not of 9; --new-head draws one"):
        public.load(tmp_path / "x.safetensors", content, classes=9)
    with pytest.raises(InputError, match="has no class head; say with --classes how many classes a new one shall have"):
        public.load(tmp_path / "x.safetensors", content, new_head=True)


def test_the_stages_make_a_row_of_a_file(tmp_path, monkeypatch):
    """From params.yaml to the checkpoint that finetuning begins with: nothing is trained, no backbone is needed."""
    whole = params_file.parameters()
    sizes = {key: value for key, value in tiny.SIZES.items() if key != "num_classes"}
    sizes["backbone"] = {key: list(value) if isinstance(value, tuple) else value for key, value in tiny.BODY.items()}
    whole["run"]["methods"] = ["detreg_public"]
    whole["scales"]["demo"]["detector"] = {"name": "deformable_detr", **sizes}
    whole["scales"]["demo"]["pretrain"]["detreg_public"] = {"checkpoint": "detreg.pth"}
    YAML().dump(whole, tmp_path / "params.yaml")
    theirs = tiny.detector(seed=1)
    public_file(tmp_path / "detreg.pth", theirs)
    monkeypatch.chdir(tmp_path)
    plan.main(scale="demo")
    backbone.main(scale="demo")
    pretrain.main(scale="demo", method="detreg_public")
    model = tiny.detector(seed=2, num_classes=3)
    load_start(model, tmp_path / "checkpoints/demo/pretrain/detreg_public.safetensors", "student")
    assert torch.equal(model.transformer.level_embed, theirs.transformer.level_embed)
    made = checkpoint.load(tmp_path / "checkpoints/demo/backbone/detreg_public.safetensors", "backbone")
    assert torch.equal(made["conv1.weight"], theirs.backbone[0].body.conv1.weight)

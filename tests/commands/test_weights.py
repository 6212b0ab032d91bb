"""``python -m proseco weights`` on files in the public formats."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import DeformableDetrForObjectDetection

from proseco.weights import checkpoint, detector
from tests import public_files, tiny

ROOT = Path(__file__).resolve().parents[2]
MODEL = tiny.detector(box_refinement=True)


@pytest.fixture
def run(called):
    return partial(called, "weights")


@pytest.fixture
def public(tmp_path):
    torch.save(public_files.detreg(MODEL, prefix="module."), tmp_path / "detreg.pth")
    return tmp_path / "detreg.pth"


@pytest.fixture
def pretrained(tmp_path):
    states = {
        name: tiny.detector(seed, num_classes=None).state_dict() for seed, name in enumerate(("student", "teacher"))
    }
    states["student"]["projector.layers.0.weight"] = torch.ones(2)
    checkpoint.save(tmp_path / "proseco.safetensors", states, {"steps": 7})
    return tmp_path / "proseco.safetensors"


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in state.items())


def test_show(run, public):
    code, lines, err = run("show", public)
    assert (code, err) == (0, "")
    for line in ("width: 32", "heads: 4", "points: 3", "box_refinement: True", "class head: 5 classes"):
        assert line in lines
    assert lines[-1] == "beside it: feature_embed (2), optimizer (3)"
    made = torch.load(public, weights_only=False)
    del made["model"]["module.input_proj.0.1.bias"]
    torch.save(made, public)
    assert run("show", public)[1][-1] == "missing: input_proj.0.1.bias"


def test_import_then_export_as_it_was(run, public, tmp_path):
    code, lines, _ = run("import", public, "--out", tmp_path / "in.safetensors")
    assert code == 0
    assert lines[-2:] == [
        "left out: feature_embed (2), optimizer (3)",
        f"wrote {tmp_path / 'in.safetensors'}, network detector",
    ]
    assert same(checkpoint.load(tmp_path / "in.safetensors", "detector"), MODEL.state_dict())
    facts = detector.read(tmp_path / "in.safetensors").facts
    assert (facts["source"], len(facts["digest"]), facts["detector"]["heads"]) == ("detreg.pth", 32, 4)
    code, _, _ = run("export", tmp_path / "in.safetensors", "--to", "deformable_detr", "--out", tmp_path / "out.pth")
    assert code == 0
    assert same(torch.load(tmp_path / "out.pth", weights_only=True)["model"], MODEL.state_dict())


def test_a_class_head_of_another_size(run, public, tmp_path):
    out = tmp_path / "in.safetensors"
    code, _, err = run("import", public, "--out", out, "--classes", 20)
    assert code == 1 and err.endswith("has a class head of 5 classes, not of 20; --new-head draws one\n")
    assert not out.exists()
    code, lines, _ = run("import", public, "--out", out, "--classes", 20, "--new-head")
    assert code == 0 and "drawn anew: class_embed (4)" in lines
    assert detector.read(out).state["class_embed.1.bias"].shape == (20,)


def test_a_pretrained_student_goes_out(run, pretrained, tmp_path):
    options = ("export", pretrained, "--network", "student", "--heads", 4, "--out")
    code, lines, _ = run(*options, tmp_path / "a.pth", "--to", "deformable_detr")
    assert code == 0 and lines[-1] == f"wrote {tmp_path / 'a.pth'}, which has no class head"
    student = {k: v for k, v in checkpoint.load(pretrained, "student").items() if "projector" not in k}
    assert same(torch.load(tmp_path / "a.pth", weights_only=True)["model"], student)
    code, _, err = run(*options, tmp_path / "hf", "--to", "transformers")
    assert code == 1 and "has no class head, which transformers needs: --classes N --new-head draws one" in err
    assert run(*options, tmp_path / "hf", "--to", "transformers", "--classes", 9, "--new-head")[0] == 0
    theirs = DeformableDetrForObjectDetection.from_pretrained(tmp_path / "hf")
    assert theirs.config.num_labels == 9
    assert torch.equal(theirs.model.level_embed, student["transformer.level_embed"])
    code, lines, _ = run(*options, tmp_path / "plain.safetensors", "--to", "safetensors")
    assert code == 0 and json.loads((tmp_path / "plain.json").read_text())["detector"]["queries"] == 6


def test_a_mistake_is_one_line(run, pretrained, tmp_path):
    code, _, err = run("show", pretrained)
    assert (
        code == 1
        and err == f"error: checkpoint '{pretrained}' holds the networks student, teacher; choose one (network)\n"
    )
    code, _, err = run(
        "export", pretrained, "--network", "student", "--heads", 4, "--to", "onnx", "--out", tmp_path / "x"
    )
    assert code == 1 and err.startswith("error: no format named 'onnx'; there is deformable_detr, safetensors,")


def test_weights_are_not_written_where_their_settings_go(run, public, tmp_path):
    for command in (("import", public), ("export", public, "--to", "safetensors")):
        code, _, err = run(*command, "--out", tmp_path / "n.json")
        assert code == 1 and "n.json' would hold weights; .json is of the settings beside them" in err
    assert not (tmp_path / "n.json").exists()


def test_a_folder_of_the_user_is_never_replaced(run, public, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    words = [("import", public)] + [("export", public, "--to", to) for to in ("deformable_detr", "transformers")]
    for command in words:
        code, _, err = run(*command, "--out", tmp_path / "mine")
        assert code == 1 and "mine' is a folder that is there already; name a new one, or remove it" in err
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "x"


def test_the_program_itself():
    """And its help needs no torch, which takes seconds to import."""
    done = subprocess.run(
        [sys.executable, "-m", "proseco", "weights", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "usage: python -m proseco weights" in done.stdout
    code = "import sys, proseco.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0

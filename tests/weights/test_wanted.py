from pathlib import Path

import pytest
from ruamel.yaml import YAML

from proseco.base.errors import InputError
from proseco.experiment import plan
from proseco.weights import wanted
from stages import backbone
from stages import plan as planning
from tests import params_file

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Of paper scale with a row from a file; no checkpoint is there."""
    monkeypatch.chdir(tmp_path)
    whole = params_file.parameters() | {"scale": "paper"}
    whole["run"]["methods"] = ["supervised", "proseco", "detreg_public"]
    YAML().dump(whole, Path("params.yaml"))
    return whole


def test_the_files_of_selected_rows_are_named_with_their_keys(settings, monkeypatch):
    for source in ("proseco", "stages"):
        Path(source).symlink_to(ROOT / source)  # stage plan digests plug-ins
    folder = "../datasets/checkpoints"
    lines = wanted.missing(plan.backbones(settings, "paper")["backbones"], scale="paper")
    assert lines == [  # not SwAV's, which no row uses
        f"scales.paper.pretrain.detreg_public.checkpoint: no file '{folder}/detreg_imagenet.pth' (params.yaml)",
        f"scales.paper.backbones.scrl.checkpoint: no file '{folder}/scrl_1000ep.pth' (params.yaml)",
        f"scales.paper.backbones.supervised.checkpoint: no file '{folder}/resnet50-0676ba61.pth' (params.yaml)",
    ]
    planning.main(scale="paper")
    with pytest.raises(InputError) as caught:
        backbone.main(scale="paper")
    assert str(caught.value) == "; ".join(lines)


def test_files_that_are_there_and_backbones_that_are_trained_are_passed_over(settings, tmp_path):
    file = tmp_path / "r50.pth"
    file.touch()
    entries = {"a": {"checkpoint": str(file)}, "b": {"name": "swav"}, "row@x": {"checkpoint": str(tmp_path)}}
    assert wanted.missing(entries, scale="s") == [
        f"scales.s.pretrain.row.checkpoint: no file '{tmp_path}' (params.yaml)"
    ]

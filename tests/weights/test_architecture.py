"""The entry that a state dict's names and shapes tell of builds the very network."""

from pathlib import Path

import pytest
import torch

from proseco.base import plugins
from proseco.base.errors import InputError
from proseco.weights import architecture
from tests import params_file, tiny
from tests.public_files import ARGS

ROOT = Path(__file__).resolve().parents[2]
WIDE = {"block": "bottleneck", "layers": (2, 1, 3, 1), "stem": 8, "widths": (8, 12, 16, 24)}
VARIANTS = [
    {},
    {"box_refinement": True},
    {"box_refinement": True, "two_stage": True, "encoder_layers": 3},
    {"levels": 1, "num_classes": None},
    {"levels": 5, "decoder_layers": 1, "backbone": WIDE},
]


def build(entry, classes):
    return plugins.call("detectors", entry, num_classes=classes, place="here")


@pytest.mark.parametrize("changes", VARIANTS)
def test_shapes_tell_the_network(changes):
    model = tiny.detector(**changes)
    state = model.state_dict()
    found = architecture.entry(state, {"args": ARGS}, place="x.pth")
    classes = architecture.classes(state)
    assert classes == changes.get("num_classes", 5)
    wanted = {"name": "deformable_detr", "box_refinement": False, "two_stage": False, **tiny.SIZES, **changes}
    wanted["backbone"] = {k: list(v) if isinstance(v, tuple) else v for k, v in wanted["backbone"].items()}
    del wanted["num_classes"]
    assert found == wanted | {"dropout": 0.1}
    twin = build(found, classes)
    twin.load_state_dict(state)
    batch = tiny.batch(views=1)
    ours, theirs = model(batch.views[0], batch.mask), twin.eval()(batch.views[0], batch.mask)
    assert torch.equal(ours["boxes"], theirs["boxes"])


def test_the_papers_detector_is_told_without_being_told():
    entry = params_file.parameters()["scales"]["paper"]["detector"]
    with torch.device("meta"):
        state = build(entry, 91).state_dict()
    assert architecture.entry(state, {}, place="x") == entry
    assert architecture.classes(state) == 91


def test_what_shapes_do_not_tell():
    state = tiny.detector().state_dict()  # 4 heads, 3 points
    assert not architecture.says_heads({})
    with pytest.raises(
        InputError, match=r"x\.pth' is of 12 = heads x points a level, it does not say .*; give --heads"
    ):
        architecture.entry(state, {}, place="x.pth")
    found = architecture.entry(state, {}, heads=6, place="x.pth")
    assert (found["heads"], found["points"], found["dropout"], found["queries"]) == (6, 2, 0.1, 6)
    with pytest.raises(InputError, match="is of 12 = heads x points a level, not of 5 heads; give --heads"):
        architecture.entry(state, {}, heads=5, place="x.pth")
    ours = {"detector": {"heads": 2, "dropout": 0.3, "queries": 99}}
    assert architecture.says_heads(ours) and architecture.says_heads({"args": ARGS})
    found = architecture.entry(state, ours, place="x")
    assert (found["heads"], found["points"], found["dropout"], found["queries"]) == (2, 6, 0.3, 6)


def test_two_stages_keep_as_many_queries_as_the_file_says():
    state = tiny.detector(box_refinement=True, two_stage=True).state_dict()
    assert architecture.entry(state, {"args": ARGS | {"num_queries": 77}}, place="x")["queries"] == 77
    assert architecture.entry(state, {}, heads=4, place="x")["queries"] == 300


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"nheads": -4}, "heads = -4; it must be at least 1"),
        ({"nheads": "8"}, "heads = '8'; it must be at least 1"),
        ({"nheads": True}, "heads = True; it must be at least 1"),
        ({"num_queries": 0}, "queries = 0; it must be at least 1"),
        ({"dropout": float("nan")}, r"dropout = nan; it must be 0\.\.1"),
    ],
)
def test_what_a_file_says_of_itself_is_not_believed_blindly(said, words):
    with pytest.raises(InputError, match=rf"x\.pth' says of itself {words}"):
        architecture.entry(tiny.detector().state_dict(), {"args": ARGS | said}, place="x.pth")


def test_nonsense_names_and_shapes():
    state = tiny.detector().state_dict()
    far = {"transformer.encoder.layers.999999.norm1.bias": torch.zeros(1)}
    with pytest.raises(InputError, match=r"x\.pth' has names of a layer 999999; 1000 are believed"):
        architecture.entry(state | far, {"args": ARGS}, place="x.pth")
    for name, value in (
        ("transformer.level_embed", torch.zeros(3)),
        ("transformer.level_embed", torch.zeros(0, 8)),
        ("query_embed.weight", torch.zeros(())),
    ):
        with pytest.raises(InputError, match="tensors of Deformable DETR's names, but not of as many dimensions"):
            architecture.entry(state | {name: value}, {"args": ARGS}, place="x.pth")
    with pytest.raises(InputError, match="not of -4 heads; give --heads"):
        architecture.entry(state, {}, heads=-4, place="x.pth")


def test_a_dilated_backbone_is_refused():
    state = tiny.detector().state_dict()
    with pytest.raises(InputError, match=r"x\.pth' has a dilated backbone \(DC5\), which is not built here"):
        architecture.entry(state, {"args": ARGS | {"dilation": True}}, place="x.pth")


@pytest.mark.parametrize(
    "key", ["transformer.level_embed", "query_embed.weight", "backbone.0.body.layer3.0.conv1.weight"]
)
def test_a_name_that_cannot_be_done_without(key):
    state = tiny.detector().state_dict()
    del state[key]
    with pytest.raises(InputError, match=rf"x\.pth' lacks {key}, which every Deformable DETR on a ResNet has"):
        architecture.entry(state, {"args": ARGS}, place="x.pth")

"""DETReg: the set loss without classes, and embeddings against those of the frozen backbone."""

import cv2
import numpy as np
import pytest
import torch

from proseco.base.errors import InputError
from proseco.data.sample import Sample
from proseco.methods import _patches, detreg
from proseco.proposals import selective_search
from proseco.runs.finetuning import load_start
from proseco.weights import checkpoint
from tests import oracles, tiny

W = {"class": 2.0, "coord": 5.0, "giou": 1.5, "embed": 0.7}


def method(stride=8, micro_batch=None, **changes):
    torch.manual_seed(1)
    weights = {f"lambda_{name}": value for name, value in W.items()}
    model = tiny.detector(num_classes=None, **changes)
    made = detreg.build(model, weak={}, side=32, stride=stride, micro_batch=micro_batch, **weights)
    tiny.stir(made.student.detector.class_embed, seed=2, noise=0.5)
    made.student.eval()
    return made


def test_it_can_search_for_its_boxes(picture):
    """As the public code does: of the image squeezed to a square, in another order each time."""
    search = {"side": 32, "proposals": {"name": "selective_search", "mode": "single"}}
    weak = {"short_edges": [60], "long_edge": None, "flip_probability": 0.0, "crop_probability": 0.0}
    weak |= {"first_short_edges": [60], "crop_min": 30, "crop_max": 60}
    made = detreg.build(tiny.detector(num_classes=None), weak=weak, boxes=4, search=search)
    sample = Sample("k", picture, np.float32([[1, 1, 2, 2]]))  # which is not used
    found = [made.transform(sample, np.random.default_rng(seed)).boxes_cxcywh for seed in (0, 0, 1)]
    square = np.ascontiguousarray(cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA))
    everything = {tuple(box) for box in selective_search.propose(square, seed=1, mode="single").tolist()}
    for boxes in found:
        corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1) * 32
        assert len(boxes) == 4 and {tuple(box) for box in corners.round(3).tolist()} <= everything
    assert (found[0] == found[1]).all() and (found[0] != found[2]).any()


@pytest.fixture
def picture():
    """(60, 90, 3), four blocks of colour with grain."""
    grain = np.random.default_rng(0).integers(0, 20, (60, 90, 3))
    blocks = np.kron(np.random.default_rng(1).integers(0, 230, (2, 2, 3)), np.ones((30, 45, 1), int))
    return (blocks + grain).astype(np.uint8)


def batch(boxes=(3, 0, 2)):
    return tiny.batch(boxes, views=1, classes=1)


def per_image(rows, boxes):
    return [part.tolist() for part in rows.split([len(wanted) for wanted in boxes])]


@pytest.mark.parametrize("stride", [8, 32])
@pytest.mark.parametrize(("boxes", "changes"), [((3, 0, 2), {}), ((4, 1, 2), {"box_refinement": True})])
def test_a_step_is_the_formula_in_loops(monkeypatch, boxes, changes, stride):
    made, data = method(stride, **changes), batch(boxes)
    level = detreg.STRIDES.index(stride)
    with torch.no_grad():
        out = made.predict(data)
        maps = _patches.pooled(made.student.detector, data.views[0], data.mask, data.boxes, 32)
    assert made.losses(data)[0].keys() == W.keys()
    # In float64 from the networks' outputs on: no rounding left to hide behind.
    out, maps = {name: value.double() for name, value in out.items()}, [level.double() for level in maps]
    data.boxes = [wanted.double() for wanted in data.boxes]
    made.student.projector.double()
    monkeypatch.setattr(made, "predict", lambda _: out)
    monkeypatch.setattr(_patches, "pooled", lambda *_: maps)
    with torch.no_grad():
        embeddings = made.student.projector(out["queries"][-1])
        terms, figures = made.losses(data)
    drawn, wanted = [boxes.tolist() for boxes in data.boxes], per_image(maps[level], data.boxes)
    lists = (out["logits"].tolist(), out["boxes"].tolist(), embeddings.tolist())
    truth = oracles.detreg_oracle(*lists, drawn, wanted, W)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(truth, rel=1e-9)
    targets = [([0] * len(here), here) for here in drawn]
    pairs = oracles.set_matching_oracle(lists[0][-1], lists[1][-1], targets, W)
    overlaps = [
        oracles.iou_oracle(oracles.corners_oracle(lists[1][-1][image][q]), oracles.corners_oracle(drawn[image][t]))
        for image, found in enumerate(pairs)
        for q, t in found
    ]
    assert figures["matched_iou"].item() == pytest.approx(sum(overlaps) / len(overlaps), rel=1e-9)


def test_the_backbone_and_the_crops_decide_the_embeddings(monkeypatch):
    made, data = method(), batch()
    before, _ = made.losses(data)
    pooled = _patches.pooled

    def of_wrong_crops(detector, view, mask, boxes, side):
        return pooled(detector, view, mask, [wanted.flip(0) for wanted in boxes], side)

    monkeypatch.setattr(_patches, "pooled", of_wrong_crops)
    wrong, _ = made.losses(data)
    monkeypatch.undo()
    monkeypatch.setattr(_patches, "pooled", lambda *a: [level * 1.1 for level in pooled(*a)])
    other, _ = made.losses(data)
    for changed in (wrong, other):
        assert abs(changed["embed"] - before["embed"]) > 1e-4
        assert all(changed[name] == before[name] for name in ("class", "coord", "giou"))
    monkeypatch.undo()
    data.views[0, 0] = data.views[0, 0].flip(-1)  # the crops are the view's
    assert made.losses(data)[0]["embed"] != before["embed"]


def test_all_learns_but_the_backbone():
    made = method()
    made.student.train()
    sum(made.losses(batch())[0].values()).backward()
    learns = {name for name, p in made.student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert learns == {n for n, _ in made.student.named_parameters() if not n.startswith("detector.backbone.")}


def test_images_without_boxes_teach_that_there_is_no_object():
    made = method()
    terms, figures = made.losses(batch((0, 0, 0)))
    assert terms["coord"] == terms["giou"] == terms["embed"] == figures["matched_iou"] == 0
    assert terms["class"] > 0
    sum(terms.values()).backward()
    found = made.matched_predictions(batch((2, 0, 8)))
    assert [len(boxes) for boxes, _ in found["student"]] == [2, 0, 6]


def test_parts_add_up_to_the_batch():
    whole, data = method(), batch()
    truth = whole.losses(data)
    parts = method(micro_batch=2)
    found = [parts.losses(part) for part in parts.parts(data)]
    assert len(found) == 2
    for name in (*W, "matched_iou"):
        ours = sum((terms | figures)[name].item() for terms, figures in found)
        assert ours == pytest.approx((truth[0] | truth[1])[name].item(), rel=1e-5), name


@pytest.mark.parametrize("refine", [False, True])
def test_what_leaves_is_a_whole_detector(tmp_path, refine):
    made = method(box_refinement=refine)
    weights = made.state_dicts()
    checkpoint.save(tmp_path / "pretrained.safetensors", weights, {})
    assert weights["student"].keys() == weights["teacher"].keys()
    for network in ("student", "teacher"):
        model = tiny.detector(seed=3, num_classes=7, box_refinement=refine)
        head = model.class_embed[0].weight.clone()
        load_start(model, tmp_path / "pretrained.safetensors", network)
        assert torch.equal(model.class_embed[0].weight, head)  # a new one
        loaded, ours = model.state_dict(), made.student.detector.state_dict()
        assert all(torch.equal(ours[key], value) for key, value in loaded.items() if "class_embed" not in key)


def test_an_embedding_is_of_a_map_that_there_is():
    with pytest.raises(InputError, match="no stride named 4; there is 16, 32, 8"):
        method(stride=4)


def test_a_step_in_bfloat16_is_close():
    made, data = method(), batch()
    truth, _ = made.losses(data)
    with torch.autocast("cpu", torch.bfloat16):
        terms, _ = made.losses(data)
    assert all(value.dtype == torch.float32 for value in terms.values())
    for name, value in terms.items():
        assert value.item() == pytest.approx(truth[name].item(), rel=0.05) and value != truth[name]


def test_it_takes_the_first_boxes_or_draws_them():
    weak = {"short_edges": [60], "long_edge": None, "flip_probability": 0.0, "crop_probability": 0.0}
    weak |= {"first_short_edges": [60], "crop_min": 30, "crop_max": 60}
    stored = np.float32([[x, 5, x + 4, 50] for x in range(0, 80, 8)])
    sample, found = Sample("k", np.zeros((60, 90, 3), np.uint8), stored), {}
    for draw in (False, True):
        made = detreg.build(tiny.detector(num_classes=None), weak=weak, boxes=4, draw=draw)
        views = [made.transform(sample, np.random.default_rng(seed)) for seed in range(30)]
        found[draw] = {round(x * 90 - 2) // 8 for view in views for x in view.boxes_cxcywh[:, 0].tolist()}
        assert {len(view.boxes_cxcywh) for view in views} == {4}
    assert found == {False: {0, 1, 2, 3}, True: set(range(10))}

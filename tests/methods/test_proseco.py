"""ProSeCo's step: who proposes, who is matched, what is contrasted, what may change."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proseco.detectors import deformable_detr
from proseco.losses import infonce, locsce, sce
from proseco.methods import proseco
from proseco.nn import ema
from proseco.runs.finetuning import load_start
from proseco.weights import checkpoint
from tests import oracles, tiny

W = {"contrast": 2.0, "sim": 3.0, "coord": 5.0, "giou": 1.5}
LOSS = {"tau": 0.2, "tau_t": 0.1, "lambda_sce": 0.4, "delta": 0.3}


def method(loss=None, *, same=False, contrast_aux=False, **changes):
    """Teacher and student apart, as after some steps, unless they are to be the same."""
    torch.manual_seed(1)
    made = proseco.build(
        tiny.detector(num_classes=None, **changes),
        weak={},
        strong={},
        loss=loss or partial(locsce.loss, **LOSS),
        ema_rate=0.9,
        projector=(20, 12),
        contrast_aux=contrast_aux,
        **{f"lambda_{name}": value for name, value in W.items()},
    )
    if not same:
        tiny.stir(made.teacher.detector.transformer, seed=4)
        tiny.stir(made.teacher.projector, seed=5)
        queries = made.teacher.detector.query_embed.weight
        queries.data = queries.data.roll(2, 0)  # so that the diagonal is no good matching
    return made


def copies(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(state, module):
    return all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def cosine(a, b):
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def sigma_by_trying(z, z_hat, b, b_hat):
    """Eq. 1 and 2: the costs, and the best permutation."""
    cost = np.zeros((len(z), len(z)))
    for i, j in np.ndindex(cost.shape):
        cost[i, j] = oracles.proposal_cost_oracle(z[i], z_hat[j], b[i], b_hat[j], W["sim"], W["coord"], W["giou"])
    return cost, [column for _, column in oracles.assignment_oracle(cost)[1]]


def test_the_teacher_sees_the_weak_view_and_the_student_the_strong_one():
    made, batch = method(), tiny.batch()
    teacher, student = made.propose(batch)
    with torch.no_grad():
        for ours, branch, view in ((teacher, made.teacher, 0), (student, made.student, 1)):
            embeddings, boxes = branch(made.features(batch.views[view], batch.mask), batch.mask)
            assert ours[0].shape == (1, 3, 6, 12)  # of the last layer
            assert ours[1].shape == (2, 3, 6, 4)
            assert torch.allclose(ours[0], embeddings, atol=1e-5)
            assert torch.allclose(ours[1], boxes, atol=1e-5)
            assert torch.allclose(ours[0].norm(dim=-1), torch.ones(1, 3, 6))
    out = made.student.detector.decode(made.features(batch.views[1], batch.mask), batch.mask)
    assert torch.allclose(student[0], F.normalize(made.student.projector(out["queries"][-1:]), dim=-1), atol=1e-5)
    assert not teacher[0].requires_grad
    assert student[0].requires_grad


def test_bytes_are_normalised_once_for_both_views(monkeypatch):
    seen = []
    normal = deformable_detr.normalise

    def spy(images, mask):
        seen.append(images)
        return normal(images, mask)

    monkeypatch.setattr(deformable_detr, "normalise", spy)
    made, batch = method(), tiny.batch()
    made.losses(batch)
    assert len(seen) == 1 and seen[0].dtype == torch.uint8
    assert torch.equal(seen[0], batch.views.flatten(0, 1))


def test_sigma_is_the_cheapest_permutation():
    made, batch = method(), tiny.batch()
    with torch.no_grad():
        (z, b), (z_hat, b_hat) = teacher, student = made.propose(batch)
    (aligned,), _ = made.match(teacher, student, batch)
    for image, sigma in enumerate(aligned):
        assert sorted(sigma.tolist()) == list(range(6))
        cost, best = sigma_by_trying(z[-1, image], z_hat[-1, image], b[-1, image], b_hat[-1, image])
        assert cost[range(6), sigma].sum() == pytest.approx(cost[range(6), best].sum(), abs=1e-4)
        assert cost[range(6), best].sum() < np.trace(cost)  # the diagonal would have been a mistake


def test_a_student_like_the_teacher_is_matched_with_itself():
    made, batch = method(same=True), tiny.batch()
    batch.views[1] = batch.views[0]
    (aligned,), _ = made.match(*made.propose(batch), batch)
    assert aligned.tolist() == [list(range(6))] * 3
    _, figures = made.losses(batch)
    assert figures["cosine"].item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("contrast_aux", [False, True])
@pytest.mark.parametrize(("boxes", "changes"), [((3, 0, 2), {}), ((4, 8, 1), {"box_refinement": True})])
def test_a_step_is_equation_5_in_loops(boxes, changes, contrast_aux):
    """Every term, from what the networks put out: matchings, layers, counts, signs and directions."""
    made, batch = method(contrast_aux=contrast_aux, **changes), tiny.batch(boxes)
    with torch.no_grad():
        teacher, student = made.propose(batch)
    layers = [-2, -1] if contrast_aux else [-1]
    contrast = partial(oracles.locsce_oracle, **LOSS)
    drawn = [wanted.tolist() for wanted in batch.boxes]
    as_lists = ([part.tolist() for part in side] for side in (teacher, student))
    truth = oracles.proseco_oracle(*as_lists, drawn, W, contrast, layers)
    terms, _ = made.losses(batch)
    assert list(terms) == list(truth)
    for name, value in terms.items():
        assert value.item() == pytest.approx(truth[name], rel=1e-5), name
    # In float64 from the networks' outputs on: no rounding left to hide behind.
    teacher, student = (tuple(part.double() for part in side) for side in (teacher, student))
    batch.boxes = [wanted.double() for wanted in batch.boxes]
    terms, _ = made.contrast(teacher, student, *made.match(teacher, student, batch), batch)
    for name, value in terms.items():
        assert value.item() == pytest.approx(truth[name], rel=1e-10), name


def test_an_image_without_boxes_is_contrasted_all_the_same():
    made, batch = method(), tiny.batch()
    before, _ = made.losses(batch)
    batch.views[1, 1] = batch.views[1, 1].flip(-1)  # the strong view of the image without boxes
    after, _ = made.losses(batch)
    assert after["contrast"] != before["contrast"]
    for name in ("coord", "giou"):
        assert after[name].item() == pytest.approx(before[name].item(), rel=1e-6)


def test_a_batch_without_any_box():
    made, batch = method(), tiny.batch((0, 0, 0))
    terms, figures = made.losses(batch)
    assert terms["coord"] == terms["giou"] == figures["matched_iou"] == 0
    sum(terms.values()).backward()
    assert made.student.projector.layers[0].weight.grad.abs().sum() > 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.student.parameters())
    assert [len(boxes) for boxes, _ in made.matched_predictions(batch)["teacher"]] == [0, 0, 0]


def test_the_teacher_is_used():
    made, batch = method(), tiny.batch()
    before, _ = made.losses(batch)
    tiny.stir(made.teacher.projector, seed=8)
    after, _ = made.losses(batch)
    assert abs(after["contrast"] - before["contrast"]) > 1e-3
    assert torch.equal(after["coord"], before["coord"])
    with torch.no_grad():
        made.teacher.detector.transformer.reference_points.bias += 0.5  # its boxes are: they choose positives
    moved, _ = made.losses(batch)
    assert moved["contrast"] != after["contrast"]


def test_the_teacher_and_the_backbone_take_no_gradient():
    made, batch = method(), tiny.batch()
    sum(made.losses(batch)[0].values()).backward()
    assert all(not p.requires_grad and p.grad is None for p in made.teacher.parameters())
    assert all(not p.requires_grad and p.grad is None for p in made.backbone.parameters())
    learns = {name for name, p in made.student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert learns == {n for n, _ in made.student.named_parameters() if not n.startswith("detector.backbone.")}


def test_the_teacher_follows_and_the_backbone_stays():
    made, batch = method(), tiny.batch()
    backbone = copies(made.backbone)
    assert made.teacher.detector.backbone[0].body.conv1.weight is made.student.detector.backbone[0].body.conv1.weight
    assert made.teacher.projector.layers[0].weight is not made.student.projector.layers[0].weight
    expected = copies(made.teacher)
    optimizer = torch.optim.AdamW(made.student.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        made.student.train()
        optimizer.zero_grad()
        sum(made.losses(batch)[0].values()).backward()
        optimizer.step()
        made.after_step()
        for name, value in made.student.state_dict().items():
            expected[name] = 0.9 * expected[name] + 0.1 * value
    assert not made.teacher.training
    assert same(backbone, made.backbone)
    for name, value in made.teacher.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-6), name
    assert not same(copies(made.student), made.teacher)


def test_student_and_teacher_begin_equal():
    made = method(same=True)
    assert same(copies(made.student), made.teacher)


def test_the_teacher_is_without_dropout():
    made, batch = method(dropout=0.5), tiny.batch()
    made.student.train()
    (first, _), (once, _) = made.propose(batch)
    (second, _), (again, _) = made.propose(batch)
    assert torch.equal(first, second)
    assert not torch.allclose(once, again, atol=1e-3)


def test_the_contrast_of_every_layer_is_a_sum():
    seen = []

    def spy(z, z_hat, boxes, *, anchors):
        assert anchors == slice(0, 3)
        seen.append(locsce.loss(z, z_hat, boxes, **LOSS))
        return seen[-1]

    batch = tiny.batch()
    every = method(spy, contrast_aux=True)
    with torch.no_grad():
        (z, b), (z_hat, b_hat) = every.propose(batch)
    truth = 0.0
    for layer in range(2):
        sigma = [sigma_by_trying(z[layer, i], z_hat[layer, i], b[layer, i], b_hat[layer, i])[1] for i in range(3)]
        truth += oracles.locsce_oracle(z[layer].tolist(), z_hat[layer].tolist(), b[layer].tolist(), sigma, **LOSS)
    terms, _ = every.losses(batch)
    assert len(seen) == 2
    assert terms["contrast"].item() == pytest.approx(W["contrast"] * truth, rel=1e-4)
    last, _ = method(contrast_aux=False).losses(batch)
    assert last["contrast"].item() == pytest.approx(W["contrast"] * seen[1].item(), rel=1e-6)


def test_the_figures_to_watch():
    made, batch = method(), tiny.batch()
    with torch.no_grad():
        (z, b), (z_hat, b_hat) = teacher, student = made.propose(batch)
    (aligned,), box_pairs = made.match(teacher, student, batch)
    _, figures = made.losses(batch)
    positives, similar, overlaps = 0, 0.0, []
    for image in range(3):
        corners = [oracles.corners_oracle(box) for box in b[-1, image]]
        positives += sum(oracles.iou_oracle(p, q) >= LOSS["delta"] for p in corners for q in corners)
        similar += sum(cosine(z[-1, image, j], z_hat[-1, image, k]) for j, k in enumerate(aligned[image]))
        for row, column in zip(*box_pairs[-1][image], strict=True):
            ours, theirs = b_hat[-1, image, row], batch.boxes[image][column]
            overlaps.append(oracles.iou_oracle(oracles.corners_oracle(ours), oracles.corners_oracle(theirs)))
    assert figures["positives"].item() == pytest.approx(positives / 18)
    assert figures["ema_distance"].item() == pytest.approx(ema.distance(made.teacher, made.student).item()) != 0
    assert figures["cosine"].item() == pytest.approx(similar / 18, abs=1e-5)
    assert len(overlaps) == 5
    assert figures["matched_iou"].item() == pytest.approx(sum(overlaps) / 5, rel=1e-4)


@pytest.mark.parametrize("delta", [0.1, 0.5, 1.0])
def test_the_positives_are_those_of_the_loss(delta):
    """Eq. 9 counts by the loss's own delta; at 1, as in losses without one, an anchor is its only positive."""
    batch = tiny.batch()
    made = method(partial(locsce.loss, delta=delta))
    with torch.no_grad():
        for head in set(made.teacher.detector.bbox_embed):
            head.layers[-1].bias[2:] += 2  # large boxes, which overlap
        (_, b), _ = made.propose(batch)
    corners = [[oracles.corners_oracle(box) for box in boxes] for boxes in b[-1]]
    count = sum(
        i == j or oracles.iou_oracle(p, q) >= delta for c in corners for i, p in enumerate(c) for j, q in enumerate(c)
    )
    assert (count > 18) == (delta < 1)
    assert made.losses(batch)[1]["positives"].item() == pytest.approx(count / 18)
    for loss in (infonce.loss, partial(sce.loss, tau=0.2)):
        assert method(loss).losses(batch)[1]["positives"] == 1
    assert method(locsce.loss).positive_from == 0.5  # its default


def test_matched_predictions_are_the_cheapest_of_each_network():
    made, batch = method(dropout=0.5), tiny.batch((4, 0, 8))
    for mode in (True, False):
        made.student.train(mode)
        first, second = made.matched_predictions(batch), made.matched_predictions(batch)
        assert list(first) == ["student", "teacher"]
        for name, found in first.items():
            assert [tuple(boxes.shape) for boxes, _ in found] == [(4, 4), (0, 4), (6, 4)]
            assert all(torch.equal(a, c) and i == j for (a, i), (c, j) in zip(found, second[name], strict=True))
        assert made.student.training is mode
    made.student.eval()
    teacher, student = made.propose(batch)
    for (_, boxes), found in ((student, first["student"]), (teacher, first["teacher"])):
        for predicted, wanted, (ours, numbers) in zip(boxes[-1].tolist(), batch.boxes, found, strict=True):
            cost = np.zeros((6, len(wanted)))
            for i, j in np.ndindex(cost.shape):
                cost[i, j] = oracles.box_cost_oracle(predicted[i], wanted[j], W["coord"], W["giou"])
            assert len(set(numbers)) == len(numbers)
            paid = sum(
                oracles.box_cost_oracle(p, wanted[j], W["coord"], W["giou"])
                for p, j in zip(ours.tolist(), numbers, strict=True)
            )
            least = sum(cost[i, j] for i, j in oracles.assignment_oracle(cost)[1])
            assert paid == pytest.approx(least, abs=1e-4)


def test_a_prediction_that_is_no_number_names_its_image():
    made, batch = method(), tiny.batch()
    forward = made.student.forward
    made.student.forward = lambda features, mask: tuple(poison(part) for part in forward(features, mask))

    def poison(part):
        part = part.clone()
        part[:, 2] = float("nan")
        return part

    with pytest.raises(FloatingPointError, match="image2"):
        made.losses(batch)


@pytest.mark.parametrize("refine", [False, True])
def test_what_leaves_is_a_whole_detector(tmp_path, refine):
    made = method(box_refinement=refine)
    checkpoint.save(tmp_path / "pretrained.safetensors", made.state_dicts(), {})
    for network, branch in (("student", made.student), ("teacher", made.teacher)):
        model = tiny.detector(seed=3, num_classes=7, box_refinement=refine)
        head = copies(model.class_embed)
        load_start(model, tmp_path / "pretrained.safetensors", network)
        assert same(head, model.class_embed)  # a new one
        loaded = model.state_dict()
        assert all(torch.equal(value, loaded[name]) for name, value in branch.detector.state_dict().items())
    weights = made.state_dicts()
    assert list(weights) == ["student", "teacher"]
    for part in ("projector.layers.1.weight", "query_embed.weight"):
        assert not torch.equal(weights["student"][part], weights["teacher"][part])


def test_its_options_reach_the_views():
    weak, strong = {"short_edges": [60]}, {"blur_probability": 0.3}
    made = proseco.build(tiny.detector(num_classes=None), weak=weak, strong=strong, loss=locsce.loss, boxes=7)
    assert (made.transform.weak, made.transform.strong, made.transform.boxes) == (weak, strong, 7)

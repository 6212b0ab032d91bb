"""The four losses against eq. 6-12 in loops over (i, n, j, m)."""

import inspect
import math

import numpy as np
import pytest
import torch

from proseco.base import plugins
from proseco.base.errors import InputError
from proseco.losses import infonce, locnce, locsce, sce
from tests.oracles import locnce_oracle, locsce_oracle

B, N, D = 3, 4, 5
PAPER = {"tau": 0.1, "tau_t": 0.07, "lambda_sce": 0.5, "delta": 0.5}


def scene(images=B, seed=0):
    """Embeddings of unit length in float64, the student's in its own order; boxes; sigma. The last image's proposals
    all overlap, the first's do not."""
    rng = np.random.default_rng(seed)
    z, z_hat = rng.normal(size=(2, images, N, D))
    z_hat = z + z_hat  # related, as teacher and student are
    z, z_hat = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (z, z_hat))
    boxes = np.concatenate([rng.uniform(0.2, 0.8, (images, N, 2)), rng.uniform(0.2, 0.5, (images, N, 2))], -1)
    boxes[0] = [[0.1, 0.1, 0.1, 0.2], [0.4, 0.5, 0.2, 0.1], [0.8, 0.2, 0.1, 0.1], [0.7, 0.8, 0.2, 0.3]]
    boxes[-1] = np.array([0.5, 0.4, 0.6, 0.5]) + rng.uniform(-0.02, 0.02, (N, 4))
    sigma = np.stack([rng.permutation(N) for _ in range(images)])
    return z, z_hat, boxes, sigma


def tensors(z, z_hat, boxes, sigma):
    """What the losses take: float32, the student's predictions aligned with the teacher's proposals."""
    aligned = np.take_along_axis(z_hat, sigma[..., None], axis=1)
    return tuple(torch.from_numpy(x).float() for x in (z, aligned, boxes))


@pytest.mark.parametrize("relation_mask", ["self", "literal"])
@pytest.mark.parametrize("normalize_target", [False, True])
@pytest.mark.parametrize(
    "options",
    [PAPER, PAPER | {"delta": 0.2, "lambda_sce": 0.3, "tau": 0.5, "tau_t": 0.2}, PAPER | {"lambda_sce": 0.0}],
)
def test_locsce_is_equation_10(options, relation_mask, normalize_target):
    given = scene()
    options = options | {"relation_mask": relation_mask, "normalize_target": normalize_target}
    assert locsce.loss(*tensors(*given), **options).item() == pytest.approx(locsce_oracle(*given, **options), rel=1e-4)


@pytest.mark.parametrize("relation_mask", ["self", "literal"])
def test_sce_is_equation_8(relation_mask):
    given = scene(seed=1)
    options = {"tau": 0.2, "tau_t": 0.1, "lambda_sce": 0.4, "relation_mask": relation_mask}
    truth = locsce_oracle(*given, **options, delta=1)
    assert sce.loss(*tensors(*given), **options).item() == pytest.approx(truth, rel=1e-4)


@pytest.mark.parametrize("delta", [0.1, 0.5, 0.9])
def test_nce_is_equation_11_and_12(delta):
    given = scene(seed=2)
    truth = locnce_oracle(*given, tau=0.3, delta=delta)
    assert locnce.loss(*tensors(*given), tau=0.3, delta=delta).item() == pytest.approx(truth, rel=1e-4)
    truth = locnce_oracle(*given, tau=0.3, delta=1)
    assert infonce.loss(*tensors(*given), tau=0.3).item() == pytest.approx(truth, rel=1e-4)


def test_a_number_by_hand():
    z = torch.eye(2)[None]  # one image, two proposals at right angles
    apart = torch.tensor([[[0.2, 0.2, 0.1, 0.1], [0.7, 0.7, 0.1, 0.1]]])
    same, other = -math.log(math.e / (math.e + 1)), -math.log(1 / (math.e + 1))
    assert infonce.loss(z, z, apart, tau=1.0).item() == pytest.approx(same)
    # The anchor's only relation is the other proposal.
    assert sce.loss(z, z, apart, tau=1.0, lambda_sce=0.25).item() == pytest.approx(0.25 * same + 0.75 * other)
    together = apart[:, :1].expand(-1, 2, -1)
    assert locnce.loss(z, z, together, tau=1.0).item() == pytest.approx(same + other)


def test_delta_one_is_the_plain_loss_exactly():
    z, aligned, boxes = tensors(*scene())
    boxes[1, 1] = boxes[1, 0]  # their IoU is 1, and still each is its own only positive
    for mask in ("self", "literal"):
        localised = locsce.loss(z, aligned, boxes, delta=1.0, relation_mask=mask)
        assert torch.equal(localised, sce.loss(z, aligned, boxes, relation_mask=mask))
        assert localised != locsce.loss(z, aligned, boxes, delta=0.5, relation_mask=mask)
    assert torch.equal(locnce.loss(z, aligned, boxes, delta=1), infonce.loss(z, aligned, boxes))
    assert locnce.loss(z, aligned, boxes, delta=0.5) != infonce.loss(z, aligned, boxes)


def test_boxes_without_area_are_their_own_positives():
    z, aligned, boxes = tensors(*scene())
    boxes[..., 2:] = 0
    assert torch.equal(locnce.loss(z, aligned, boxes, delta=0.5), infonce.loss(z, aligned, boxes))


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_shares_of_the_anchors_add_up(name):
    loss = plugins.load("losses", name)
    given = tensors(*scene(images=4))
    whole = loss(*given)
    assert whole.shape == ()
    halves = [loss(*given, anchors=part) for part in (slice(0, 2), slice(2, 4))]
    assert sum(halves).item() / 2 == pytest.approx(whole.item(), rel=1e-5)
    unequal = [loss(*given, anchors=slice(0, 1)), 3 * loss(*given, anchors=slice(1, 4))]
    assert sum(unequal).item() / 4 == pytest.approx(whole.item(), rel=1e-5)
    assert halves[0] != halves[1]


def test_negatives_come_from_the_whole_batch():
    z, aligned, boxes = tensors(*scene())
    moved = aligned.clone()
    moved[2] = -moved[2]
    mine = slice(0, 1)
    for name in plugins.names("losses"):
        loss = plugins.load("losses", name)
        assert abs(loss(z, moved, boxes, anchors=mine) - loss(z, aligned, boxes, anchors=mine)) > 1e-3


@pytest.mark.parametrize(
    ("name", "options", "truth"),
    [
        ("locsce", PAPER | {"tau": 0.3}, locsce_oracle),
        ("locsce", PAPER | {"tau": 0.3, "normalize_target": True, "relation_mask": "literal"}, locsce_oracle),
        ("locnce", {"tau": 0.3, "delta": 0.5}, locnce_oracle),
    ],
)
def test_the_students_gradient_is_the_formulas(name, options, truth):
    z, z_hat, boxes, sigma = scene()
    sigma = np.tile(np.arange(N), (B, 1))  # aligned already: the gradient is in one order
    student = torch.from_numpy(z_hat).float().requires_grad_()
    teacher, where = torch.from_numpy(z).float(), torch.from_numpy(boxes).float()
    plugins.load("losses", name)(teacher, student, where, **options).backward()
    slope, step = np.zeros_like(z_hat), 1e-5
    for index in np.ndindex(z_hat.shape):
        high, low = z_hat.copy(), z_hat.copy()
        high[index] += step
        low[index] -= step
        slope[index] = (truth(z, high, boxes, sigma, **options) - truth(z, low, boxes, sigma, **options)) / (2 * step)
    assert np.abs(slope).max() > 0.01
    assert np.allclose(student.grad, slope, atol=1e-5)


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_the_teacher_counts_but_does_not_learn(name):
    loss = plugins.load("losses", name)
    z, aligned, boxes = (t.requires_grad_() for t in tensors(*scene()))
    value = loss(z, aligned, boxes)
    value.backward()
    assert z.grad is None
    assert boxes.grad is None
    assert aligned.grad.abs().sum() > 0
    draws = torch.Generator().manual_seed(0)
    other = torch.nn.functional.normalize(z.detach() + 0.1 * torch.randn(z.shape, generator=draws), dim=-1)
    assert abs(loss(other, aligned, boxes) - value) > 1e-3


def test_a_lone_image_has_no_literal_relation():
    z, z_hat, boxes, sigma = scene(images=1)
    given = tensors(z, z_hat, boxes, sigma)
    lone = locsce.loss(*given, **PAPER, relation_mask="literal").item()
    assert lone == pytest.approx(0.5 * locnce.loss(*given, tau=0.1, delta=0.5).item(), rel=1e-6)
    options = PAPER | {"relation_mask": "literal"}
    assert lone == pytest.approx(locsce_oracle(z, z_hat, boxes, sigma, **options), rel=1e-4)


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_half_precision_is_computed_in_float32(name):
    loss = plugins.load("losses", name)
    z, aligned, boxes = tensors(*scene())
    rough = [t.to(torch.bfloat16) for t in (z, aligned)]
    value = loss(*rough, boxes)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(*(t.float() for t in rough), boxes))


def test_a_low_temperature_does_not_overflow():
    for name in plugins.names("losses"):
        value = plugins.load("losses", name)(*tensors(*scene()), tau=1e-3)
        assert math.isfinite(value)


def test_the_papers_values_are_the_defaults():
    for loss in (infonce.loss, locnce.loss, sce.loss, locsce.loss):
        defaults = {name: p.default for name, p in inspect.signature(loss).parameters.items()}
        assert all(PAPER[name] == value for name, value in defaults.items() if name in PAPER)
        assert defaults.get("relation_mask", "self") == "self"
        assert not defaults.get("normalize_target", False)


WRONG = [("tau", 0), ("tau", -0.1), ("tau", math.nan), ("tau", "0.1"), ("delta", 0), ("delta", 1.01), ("delta", True)]
WRONG += [("tau_t", 0.0), ("lambda_sce", -0.01), ("lambda_sce", 1.5), ("lambda_sce", None)]


@pytest.mark.parametrize(("parameter", "value"), WRONG)
def test_a_value_out_of_range_is_named(parameter, value):
    for name in plugins.names("losses"):
        if parameter in plugins.keywords("losses", name):
            with pytest.raises(InputError, match=rf"loss\.{parameter} is {value!r}; it must lie in"):
                plugins.load("losses", name)(*tensors(*scene()), **{parameter: value})


def test_an_unknown_mask_is_named():
    for loss in (sce.loss, locsce.loss):
        with pytest.raises(InputError, match=r"no relation mask named 'image'; there is literal, self \(loss\."):
            loss(*tensors(*scene()), relation_mask="image")

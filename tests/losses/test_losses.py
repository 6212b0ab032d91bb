"""The four losses against eq. 6-12 in loops over (i, n, j, m)."""

import inspect
import math
from functools import partial

import numpy as np
import pytest
import torch

from proseco.base import plugins
from proseco.base.errors import InputError
from proseco.losses import _chunked, _contrast, infonce, locnce, locsce, sce
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
    """What the losses take, in float64: the student's predictions aligned with the teacher's proposals."""
    aligned = np.take_along_axis(z_hat, sigma[..., None], axis=1)
    return tuple(torch.from_numpy(x) for x in (z, aligned, boxes))


def single(*given):
    """In float32."""
    return tuple(t.float() for t in tensors(*given))


@pytest.fixture(params=[1, 5, None], ids=["row by row", "five rows", "at once"])
def chunks(request, monkeypatch):
    """How many anchors are computed at a time; five of them are of two images."""
    if request.param:
        monkeypatch.setitem(_chunked.CHUNK_BYTES, "cpu", request.param * 8 * _chunked.TABLES * B * N)


@pytest.mark.parametrize("relation_mask", ["self", "literal"])
@pytest.mark.parametrize("normalize_target", [False, True])
@pytest.mark.parametrize(
    "options",
    [PAPER, PAPER | {"delta": 0.2, "lambda_sce": 0.3, "tau": 0.5, "tau_t": 0.2}, PAPER | {"lambda_sce": 0.0}],
)
def test_locsce_is_equation_10(options, relation_mask, normalize_target, chunks):
    given = scene()
    options = options | {"relation_mask": relation_mask, "normalize_target": normalize_target}
    assert locsce.loss(*tensors(*given), **options).item() == pytest.approx(locsce_oracle(*given, **options), rel=1e-12)


@pytest.mark.parametrize("relation_mask", ["self", "literal"])
def test_sce_is_equation_8(relation_mask, chunks):
    given = scene(seed=1)
    options = {"tau": 0.2, "tau_t": 0.1, "lambda_sce": 0.4, "relation_mask": relation_mask}
    truth = locsce_oracle(*given, **options, delta=1)
    assert sce.loss(*tensors(*given), **options).item() == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("delta", [0.1, 0.5, 0.9])
def test_nce_is_equation_11_and_12(delta, chunks):
    given = scene(seed=2)
    truth = locnce_oracle(*given, tau=0.3, delta=delta)
    assert locnce.loss(*tensors(*given), tau=0.3, delta=delta).item() == pytest.approx(truth, rel=1e-12)
    truth = locnce_oracle(*given, tau=0.3, delta=1)
    assert infonce.loss(*tensors(*given), tau=0.3).item() == pytest.approx(truth, rel=1e-12)


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


CASES = [
    ("locsce", PAPER | {"tau": 0.3}),
    ("locsce", PAPER | {"tau": 0.3, "normalize_target": True, "relation_mask": "literal"}),
    ("sce", {"tau": 0.3, "relation_mask": "literal"}),
    ("locnce", {"tau": 0.3, "delta": 0.5}),
    ("infonce", {"tau": 0.3}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_students_gradient_is_the_formulas(name, options, chunks):
    z, z_hat, boxes, sigma = scene()
    sigma = np.tile(np.arange(N), (B, 1))  # aligned already: the gradient is in one order
    student = torch.from_numpy(z_hat).requires_grad_()
    plugins.load("losses", name)(torch.from_numpy(z), student, torch.from_numpy(boxes), **options).backward()
    oracle = locsce_oracle if "sce" in name else locnce_oracle
    given = {"delta": 1.0} | ({"tau_t": 0.07, "lambda_sce": 0.5} if "sce" in name else {}) | options
    slope, step = np.zeros_like(z_hat), 1e-5
    for index in list(np.ndindex(z_hat.shape))[::7]:
        high, low = z_hat.copy(), z_hat.copy()
        high[index] += step
        low[index] -= step
        slope[index] = (oracle(z, high, boxes, sigma, **given) - oracle(z, low, boxes, sigma, **given)) / (2 * step)
        assert student.grad[index].item() == pytest.approx(slope[index], abs=1e-8)
    assert np.abs(slope).max() > 0.01


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("anchors", [slice(None), slice(1, 3)])
def test_gradcheck(name, options, anchors, chunks):
    z, aligned, boxes = tensors(*scene())
    loss = plugins.load("losses", name)
    check = torch.autograd.gradcheck(
        lambda student: loss(z, student, boxes, anchors=anchors, **options), aligned.requires_grad_()
    )
    assert check


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_a_gradient_from_above_is_multiplied(name):
    z, aligned, boxes = tensors(*scene())
    value = plugins.load("losses", name)(z, aligned.requires_grad_(), boxes)
    (plain,) = torch.autograd.grad(value, aligned, retain_graph=True)
    (scaled,) = torch.autograd.grad(-3 * value, aligned, retain_graph=True)
    assert torch.allclose(scaled, -3 * plain, rtol=1e-12)
    weight = torch.ones((), dtype=value.dtype, requires_grad=True)
    (first,) = torch.autograd.grad(weight * value, aligned, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_the_chunks_change_nothing_but_rounding(name, monkeypatch):
    loss, found = plugins.load("losses", name), []
    z, aligned, boxes = single(*scene())
    for rows in (1, 5, B * N, 10 * B * N):
        monkeypatch.setitem(_chunked.CHUNK_BYTES, "cpu", rows * 4 * _chunked.TABLES * B * N)
        value = loss(z, aligned.requires_grad_(), boxes)
        found.append((value.detach(), *torch.autograd.grad(value, aligned)))
    for value, gradient in found[1:]:
        assert torch.allclose(value, found[0][0], rtol=1e-6)
        assert torch.allclose(gradient, found[0][1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_no_table_of_all_pairs_is_kept(name):
    """A table of all pairs has 40^2 numbers; what is kept for the backward pass is as large as the embeddings."""
    draws, kept = torch.Generator().manual_seed(0), []
    z, student = torch.nn.functional.normalize(torch.randn(2, 5, 8, 3, generator=draws), dim=-1)
    boxes = torch.rand(5, 8, 4, generator=draws)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        value = plugins.load("losses", name)(z, student.requires_grad_(), boxes)
    assert kept == [z.numel()]
    value.backward()
    assert student.grad.abs().sum() > 0


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_without_gradient_the_value_is_the_same(name):
    z, aligned, boxes = tensors(*scene())
    loss = plugins.load("losses", name)
    with torch.no_grad():
        plain = loss(z, aligned.requires_grad_(), boxes)
    assert not plain.requires_grad
    assert torch.equal(plain, loss(z, aligned, boxes))


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_a_process_without_images_adds_nothing(name):
    z, aligned, boxes = tensors(*scene())
    value = plugins.load("losses", name)(z, aligned.requires_grad_(), boxes, anchors=slice(1, 1))
    value.backward()
    assert value == 0
    assert aligned.grad.eq(0).all()


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


@pytest.mark.parametrize("normalize_target", [False, True])
def test_a_lone_image_has_no_literal_relation(normalize_target):
    given = scene(images=1)
    options = PAPER | {"relation_mask": "literal", "normalize_target": normalize_target}
    z, aligned, boxes = tensors(*given)
    lone = locsce.loss(z, aligned.requires_grad_(), boxes, **options)
    assert lone.item() == pytest.approx(locsce_oracle(*given, **options), rel=1e-12)
    if not normalize_target:
        assert lone.item() == pytest.approx(0.5 * locnce.loss(z, aligned, boxes, tau=0.1, delta=0.5).item(), rel=1e-12)
    nothing = locsce.loss(z, aligned, boxes, **options | {"lambda_sce": 0.0})  # neither positives nor relations
    (gradient,) = torch.autograd.grad(nothing, aligned)
    assert nothing == 0
    assert gradient.eq(0).all()


@pytest.mark.parametrize("relation_mask", ["self", "literal"])
def test_a_lone_proposal_an_image(relation_mask):
    z, z_hat, boxes, _ = scene()
    given = z[:, :1], z_hat[:, :1], boxes[:, :1], np.zeros((B, 1), int)
    options = PAPER | {"relation_mask": relation_mask}  # "literal" has nothing left: every pair has the same query
    assert locsce.loss(*tensors(*given), **options).item() == pytest.approx(locsce_oracle(*given, **options), rel=1e-12)
    alone = tensors(*(part[:1] for part in given))
    assert locsce.loss(*alone, **options) == 0  # p'' of the only proposal is 1


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_half_precision_is_computed_in_float32(name):
    loss = plugins.load("losses", name)
    z, aligned, boxes = single(*scene())
    rough = [t.to(torch.bfloat16).requires_grad_() for t in (z, aligned)]
    value = loss(*rough, boxes)
    value.backward()
    full = [t.detach().float().requires_grad_() for t in rough]
    truth = loss(*full, boxes)
    truth.backward()
    assert value.dtype == torch.float32
    assert torch.equal(value, truth)
    assert rough[1].grad.dtype == torch.bfloat16
    assert torch.equal(rough[1].grad, full[1].grad.to(torch.bfloat16))


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_float64_stays(name):
    loss = plugins.load("losses", name)
    z, aligned, boxes = tensors(*scene())
    assert loss(z, aligned, boxes).dtype == torch.float64
    assert loss(z, aligned, boxes) != loss(z.float(), aligned.float(), boxes)


def both_passes(loss, z, student, boxes):
    student = student.detach().requires_grad_()
    value = loss(z, student, boxes)
    value.backward()
    return value.detach(), student.grad


@pytest.mark.parametrize("name", plugins.names("losses"))
def test_autocast_changes_nothing(name):
    loss, given = plugins.load("losses", name), single(*scene())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = both_passes(loss, *given)
    assert all(torch.equal(a, b) for a, b in zip(rough, both_passes(loss, *given), strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", plugins.names("losses"))
@pytest.mark.parametrize("options", [{}, {"relation_mask": "literal"}])
def test_cuda_under_autocast_is_the_cpu_in_float64(name, options):
    loss = plugins.load("losses", name)
    if options.keys() - plugins.keywords("losses", name).keys():
        pytest.skip(f"{name} has no relations")
    draws = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(7, 50, 64, generator=draws), dim=-1)
    student = torch.nn.functional.normalize(z + 0.1 * torch.randn(z.shape, generator=draws), dim=-1)
    boxes = torch.rand(7, 50, 4, generator=draws) * 0.3 + 0.2
    truth = both_passes(partial(loss, **options), z.double(), student.double(), boxes.double())
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found = both_passes(partial(loss, **options), z.cuda(), student.cuda(), boxes.cuda())
    assert found[0].item() == pytest.approx(truth[0].item(), rel=1e-5)
    assert (found[1].cpu() - truth[1]).abs().max() <= 1e-5 * truth[1].abs().max()


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


def test_an_overlap_of_just_delta_is_a_positive():
    corners = torch.tensor([[[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0], [0.0, 0.0, 0.25, 1.0]]])
    found = _contrast.positives(corners, torch.arange(3), 0.5)
    assert found.tolist() == [[True, True, False], [True, True, True], [False, True, True]]

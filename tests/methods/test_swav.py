"""SwAV against the paper's formulas in plain loops, and what must move and what must not."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from proseco.base.errors import InputError
from proseco.data.batch import Batch, Crops, GlobalBatch, collate
from proseco.data.sample import Sample
from proseco.methods import swav
from proseco.nn.backbone import ResNet
from proseco.training import distributed
from tests import tiny

PHOTOMETRIC = {"jitter": [0.4, 0.4, 0.4, 0.1], "blur_sigma": [0.1, 0.5]}
SIZES = {"side": 48, "small_side": 32, "small_crops": 2, "hidden": 20, "width": 12, "prototypes": 7, "frozen_steps": 1}


def made(**changes):
    torch.manual_seed(0)
    options = {"photometric": PHOTOMETRIC, **SIZES, **changes}
    return swav.build(ResNet(**tiny.BODY, num_classes=4), **options)


def batch(count=5, sides=(48, 48, 32, 32), seed=0):
    draws = torch.Generator().manual_seed(seed)
    crops = [
        Crops(torch.randint(0, 256, (count, 3, s, s), dtype=torch.uint8, generator=draws), [torch.zeros(0, 4)] * count)
        for s in sides
    ]
    none = [torch.zeros(0, 4)] * count
    return Batch(
        keys=[f"image{i}" for i in range(count)],
        views=torch.zeros(0, count, 3, 0, 0, dtype=torch.uint8),
        mask=torch.zeros(count, 0, 0, dtype=torch.bool),
        boxes=none,
        labels=[torch.zeros(0, dtype=torch.long)] * count,
        sizes=torch.tensor([[60, 50]] * count),
        crops=crops,
    )


def sinkhorn_oracle(scores, epsilon, iterations):
    """Algorithm 1 of the paper's appendix, number by number: (n, K) -> (n, K)."""
    q = [[math.exp(x / epsilon) for x in row] for row in scores]
    n, k = len(q), len(q[0])
    for _ in range(iterations):
        for j in range(k):
            total = sum(q[i][j] for i in range(n))
            for i in range(n):
                q[i][j] /= total * k
        for i in range(n):
            total = sum(q[i])
            for j in range(k):
                q[i][j] /= total * n
    return [[x * n for x in row] for row in q]


@pytest.mark.parametrize(("samples", "prototypes"), [(9, 4), (3, 8)])
@pytest.mark.parametrize("iterations", [1, 3])
def test_codes_are_those_of_the_paper(samples, prototypes, iterations):
    scores = torch.rand(2, samples, prototypes, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    codes = swav.sinkhorn(scores, epsilon=0.05, iterations=iterations)
    for ours, one in zip(codes, scores.tolist(), strict=True):
        assert torch.allclose(ours, ours.new_tensor(sinkhorn_oracle(one, 0.05, iterations)), rtol=1e-9, atol=1e-12)


def test_marginals_of_the_codes():
    scores = torch.rand(30, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    codes = swav.sinkhorn(scores, epsilon=0.5, iterations=100)
    assert torch.allclose(codes.sum(1), torch.ones(30, dtype=torch.float64))  # an image is assigned once
    assert torch.allclose(codes.sum(0), torch.full((6,), 5.0, dtype=torch.float64))  # and a prototype has its share
    few = swav.sinkhorn(scores, epsilon=0.05, iterations=3)
    assert torch.allclose(few.sum(1), torch.ones(30, dtype=torch.float64))
    assert ((few.sum(0) - 5).abs() < 0.5 * 5).all() and (F.softmax(scores / 0.05, 1).sum(0) - 5).abs().max() > 0.5 * 5


def test_an_epsilon_of_which_the_exponential_would_overflow():
    scores = torch.tensor([[1.0, -1.0], [0.9, -1.0], [0.8, -1.0]])
    codes = swav.sinkhorn(scores, epsilon=1e-3, iterations=3)  # exp(1000) is infinite
    assert codes.isfinite().all() and torch.allclose(codes.sum(1), torch.ones(3))


def swapped_oracle(scores, codes, temperature):
    """Eq. 1-2 with multi-crop (eq. 6): a code is predicted from every crop but its own."""
    terms = []
    for i, code in enumerate(codes):
        for v, crop in enumerate(scores):
            if v == i:
                continue
            for q, row in zip(code, crop, strict=True):
                norm = math.log(sum(math.exp(x / temperature) for x in row))
                terms.append(-sum(a * (x / temperature - norm) for a, x in zip(q, row, strict=True)))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("crops", [2, 5])
def test_the_swapped_loss_is_that_of_the_paper(crops):
    draws = torch.Generator().manual_seed(3)
    scores = torch.rand(crops, 3, 6, dtype=torch.float64, generator=draws) * 2 - 1
    codes = torch.rand(2, 3, 6, dtype=torch.float64, generator=draws).softmax(-1)
    loss = swav.swapped(scores, codes, 0.1)
    assert loss.item() == pytest.approx(swapped_oracle(scores.tolist(), codes.tolist(), 0.1), rel=1e-12)


def test_the_code_of_one_view_is_predicted_from_the_other():
    """Two crops of which the first has the code of the first prototype and the second of the second."""
    codes = F.one_hot(torch.tensor([[0], [1]]), 3).double()
    right = torch.tensor([[[-1.0, 1.0, -1.0]], [[1.0, -1.0, -1.0]]], dtype=torch.float64)  # each predicts the other's
    assert swav.swapped(right, codes, 0.1) < 1e-6 < 10 < swav.swapped(right.flip(0), codes, 0.1)


def test_the_loss_of_a_batch_by_hand():
    method, one = made(), batch()
    method.student.eval()
    terms, figures = method.losses(one)
    with torch.no_grad():
        z = torch.stack([method.student([crops.images])[0] for crops in one.crops]).double()
    assert torch.allclose(z.norm(dim=-1), torch.ones(4, 5, dtype=torch.float64))
    scores = z @ method.student.prototypes.weight.detach().double().t()
    codes = [sinkhorn_oracle(scores[i].tolist(), 0.05, 3) for i in range(2)]
    assert list(terms) == ["swapped"]
    assert terms["swapped"].item() == pytest.approx(swapped_oracle(scores.tolist(), codes, 0.1), rel=1e-4)
    first, second = (np.array(code) for code in codes)
    assert figures["agreement"].item() == pytest.approx((first.argmax(1) == second.argmax(1)).mean())
    entropy = -sum(q * math.log(q) for code in codes for row in code for q in row) / 10
    assert figures["code_entropy"].item() == pytest.approx(entropy, rel=1e-4)


def test_no_gradient_flows_through_codes():
    method, one = made(frozen_steps=0), batch()
    method.student.eval()
    z = method.student([crops.images for crops in one.crops])
    codes = method.assign(z, one)
    assert not codes.requires_grad
    # The gradient with codes computed on the way is that with the same codes as constants.
    terms, _ = method.losses(one)
    weights = [p for p in method.student.parameters() if p.requires_grad]
    whole = torch.autograd.grad(terms["swapped"], weights)
    scores = F.linear(method.student([crops.images for crops in one.crops]), method.student.prototypes.weight)
    constant = torch.autograd.grad(swav.swapped(scores, codes.clone(), 0.1), weights)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(whole, constant, strict=True))
    assert all(g.abs().max() > 0 for g in whole)


def step(method, one, rate=0.5):
    optimizer = torch.optim.SGD([p for p in method.student.parameters() if p.requires_grad], lr=rate)
    terms, _ = method.losses(one)
    terms["swapped"].backward()
    optimizer.step()
    method.after_step()


def test_prototypes_wait_then_move_and_stay_unit_vectors():
    method, one = made(frozen_steps=2), batch()
    prototypes, network = method.student.prototypes.weight, method.student.network.conv1.weight
    start, ground, ones = prototypes.detach().clone(), network.detach().clone(), torch.ones(7)
    assert torch.allclose(start.norm(dim=1), ones)
    for _ in range(2):
        step(method, one)
        assert torch.allclose(prototypes, start) and prototypes.grad is None
    assert not torch.equal(network, ground)  # meanwhile the network is trained
    step(method, one)
    assert not torch.allclose(prototypes, start, atol=1e-3)
    assert torch.allclose(prototypes.norm(dim=1), ones)


def test_a_state_taken_up_knows_the_steps_and_the_queue():
    method, other = made(queue=8), made(queue=8)
    for seed in range(3):
        step(method, batch(seed=seed))
    for name, module in other.modules().items():
        module.load_state_dict(method.modules()[name].state_dict())
    assert other.memory.steps == 3 and torch.equal(other.memory.queue, method.memory.queue)
    one = batch(seed=9)
    method.student.eval(), other.student.eval()
    assert method.losses(one)[0]["swapped"] == other.losses(one)[0]["swapped"]


def test_the_queue_takes_part_once_it_is_full_and_its_step_has_come():
    method, plain = made(queue=8, queue_from=3), made()
    seen = []
    for seed in range(4):
        one = batch(seed=seed)
        z = method.student([crops.images for crops in one.crops]).detach()
        codes = method.assign(z, one)
        rows = torch.cat([z[:2].transpose(0, 1), *seen])[:13]  # the batch and the eight before it
        if seed < 3:  # full after two steps
            assert torch.allclose(codes, plain.assign(z, one), atol=1e-5)
        else:
            scores = (rows @ method.student.prototypes.weight.t()).transpose(0, 1)
            wanted = [sinkhorn_oracle(s.tolist(), 0.05, 3)[:5] for s in scores.double()]
            assert torch.allclose(codes, torch.tensor(wanted), atol=1e-4)
            assert not torch.allclose(codes, plain.assign(z, one), atol=1e-2)
        method.after_step()
        seen.insert(0, z[:2].transpose(0, 1))
    assert torch.equal(method.memory.queue, torch.cat(seen)[:8])


def test_codes_are_shared_out_over_all_processes(monkeypatch):
    """Two processes with 2 and 3 of five images: their shares of the loss add up to that of one process."""
    method, one = made(), batch()
    method.student.eval()
    whole = method.losses(one)[0]["swapped"]
    everyone, parts = method.newest, []
    monkeypatch.setattr(distributed, "gather", lambda rows, shares: everyone if len(shares) > 1 else rows)
    for first, last in ((0, 2), (2, 5)):
        part = one._part(slice(first, last))
        part.global_batch = GlobalBatch((2, 3), 0, first)
        parts.append(method.losses(part)[0]["swapped"])
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-5)


def test_views():
    method = made(area=[0.5, 1.0], small_area=[0.1, 0.2])
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:90, :130]
    image = np.stack([rows * 2, columns * 1.9, rows * 0], -1).astype(np.uint8)
    method.transform.photometric = dict.fromkeys(("jitter_probability", "grayscale_probability", "blur_probability"), 0)
    sample = Sample("a", image, np.zeros((0, 4), np.float32))
    spans = {48: [], 32: []}
    for _ in range(30):
        example = method.transform(sample, rng)
        assert (example.views, example.key, example.size) == ([], "a", (130, 90))
        assert [crop.image.shape for crop in example.crops] == [(s, s, 3) for s in (48, 48, 32, 32)]
        assert not (example.crops[0].image == example.crops[1].image).all()
        for crop in example.crops:
            height, width = (np.ptp(crop.image[..., c].astype(float)) / scale for c, scale in ((0, 2), (1, 1.9)))
            spans[len(crop.image)].append(height * width / (90 * 130))
    assert min(spans[48]) > 0.4 and max(spans[48]) <= 1.01 and np.ptp(spans[48]) > 0.2  # shares of the image
    assert min(spans[32]) > 0.06 and max(spans[32]) < 0.22


@pytest.mark.parametrize("key", ["temperature", "epsilon", "iterations", "prototypes", "side"])
def test_a_zero_that_would_divide_is_refused(key):
    with pytest.raises(InputError, match=f"{key} of swav is 0; it must be more than 0"):
        made(**{key: 0})


def test_it_learns_to_tell_images_apart():
    """Six images of noise with a colour each: crops of one get one code, and different ones different."""
    torch.manual_seed(0)
    method = made(prototypes=6, frozen_steps=5)
    rng = np.random.default_rng(0)
    samples = []
    for i in range(6):
        image = rng.integers(0, 120, (56, 72, 3), dtype=np.uint8)
        image[..., i % 3] += 120
        image[:: 2 + i // 3 * 2] //= 2
        samples.append(Sample(f"image{i}", image, np.zeros((0, 4), np.float32)))
    method.transform.photometric = dict.fromkeys(("jitter_probability", "grayscale_probability"), 0)
    optimizer = torch.optim.AdamW([p for p in method.student.parameters() if p.requires_grad], lr=3e-3)
    found = []
    for number in range(30):
        one = collate([method.transform(s, np.random.default_rng([number, i])) for i, s in enumerate(samples)])
        terms, figures = method.losses(one)
        optimizer.zero_grad()
        terms["swapped"].backward()
        optimizer.step()
        method.after_step()
        found.append(SimpleNamespace(loss=terms["swapped"].item(), agreement=figures["agreement"].item()))
    first, last = found[:5], found[-5:]
    assert np.mean([x.loss for x in last]) < 0.7 * np.mean([x.loss for x in first])
    assert np.mean([x.agreement for x in last]) > 0.8


def test_the_projection_head_is_that_of_the_public_code():
    head = made().student.head
    kinds = [torch.nn.Linear, torch.nn.BatchNorm1d, torch.nn.ReLU, torch.nn.Linear]
    assert [type(layer) for layer in head] == kinds
    assert (head[0].in_features, head[0].out_features, head[1].num_features) == (24, 20, 20)
    assert (head[3].in_features, head[3].out_features) == (20, 12)


def test_its_options_reach_the_views():
    views = made(area=[0.5, 1.0], small_area=[0.1, 0.2]).transform
    assert (views.side, views.area, views.small_side, views.small_area) == (48, [0.5, 1.0], 32, [0.1, 0.2])
    assert (views.small_crops, views.photometric) == (2, PHOTOMETRIC)


def test_a_queue_that_is_just_full_takes_part():
    method, plain = made(queue=10), made()
    for seed in range(3):
        one = batch(seed=seed)
        z = method.student([crops.images for crops in one.crops]).detach()
        alike = torch.allclose(method.assign(z, one), plain.assign(z, one), atol=1e-5)
        assert alike == (seed < 2)  # two steps of five images
        method.after_step()

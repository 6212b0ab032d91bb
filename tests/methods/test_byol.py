"""What SCRL and SoCo share: the loss, the target that follows and is used, batch norm over the whole batch."""

import io
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from proseco.base.errors import InputError
from proseco.methods import _byol
from proseco.nn.backbone import Body, state_without_counts
from proseco.training import distributed
from tests import tiny


class Encoder(nn.Module):
    """Boxes and means of images, through batch norm."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 4))

    def forward(self, images, boxes):
        rows = [torch.cat([b, image.mean().expand(len(b), 1)], 1) for image, b in zip(images, boxes, strict=True)]
        return self.layers(torch.cat(rows))


def made(ema_rate=0.9, steps=10):
    torch.manual_seed(0)
    return _byol.Byol(tiny.stir(Encoder()), (7, 4), ema_rate, steps, None)


def view(seed=0):
    draws = torch.Generator().manual_seed(seed)
    return torch.rand(2, 3, 8, 8, generator=draws), [torch.rand(n, 4, generator=draws) for n in (3, 4)]


def test_distances_are_the_formula():
    draws = torch.Generator().manual_seed(1)
    p = torch.randn(5, 3, generator=draws, requires_grad=True)
    z = torch.randn(5, 3, generator=draws, requires_grad=True)
    found = _byol.distances(p, z)
    for i in range(5):
        norms = [math.sqrt(sum(x * x for x in row.tolist())) for row in (p[i], z[i])]
        terms = [(a / norms[0] - b / norms[1]) ** 2 for a, b in zip(p[i].tolist(), z[i].tolist(), strict=True)]
        assert found[i].item() == pytest.approx(sum(terms), rel=1e-4)
    found.sum().backward()
    assert z.grad is None and (p.grad.norm(dim=1) > 0).all()
    assert _byol.distances(p.bfloat16(), z.bfloat16()).dtype == torch.float32


def test_the_keep_rate_rises_from_the_first_to_one():
    target = made(ema_rate=0.9, steps=10).teacher
    rates = []
    for _ in range(11):
        rates.append(target.keep_rate())
        target.step += 1
    assert rates[0] == pytest.approx(0.9) and rates[5] == pytest.approx(0.95) and rates[10] == pytest.approx(1.0)
    assert rates == sorted(rates)


def test_the_target_follows_its_parameters_and_keeps_its_own_statistics():
    method = made(ema_rate=0.8, steps=4)
    student, target = method.student.encoder, method.teacher.encoder
    expected = {name: value.detach().clone() for name, value in target.named_parameters()}
    mean, deviations = target.layers[1].running_mean.clone(), []
    for step in range(4):
        keep = 1 - 0.2 * (math.cos(math.pi * step / 4) + 1) / 2
        tiny.stir(method.student, step)
        images, boxes = view(step)
        hidden = []
        hook = target.layers[0].register_forward_hook(lambda module, args, out, hidden=hidden: hidden.append(out))
        method.teacher(images, boxes)
        hook.remove()
        mean = 0.9 * mean + 0.1 * hidden[0].mean(0)
        method.student(images, boxes)
        method.after_step()
        for name, value in student.named_parameters():
            expected[name] = keep * expected[name] + (1 - keep) * value.detach()
            assert torch.allclose(dict(target.named_parameters())[name], expected[name], atol=1e-6), name
        assert torch.allclose(target.layers[1].running_mean, mean, atol=1e-6)
        deviations.append((student.layers[1].running_mean - mean).abs().max())
    assert min(deviations) > 1e-4  # the online network's are others
    assert all(not p.requires_grad for p in target.parameters()) and target.training


def test_the_target_begins_as_the_online_network_and_is_no_part_of_it():
    method = made()
    pairs = zip(method.student.encoder.parameters(), method.teacher.parameters(), strict=True)
    assert all(torch.equal(a, b) and a is not b for a, b in pairs)
    assert method.modules() == {"student": method.student, "teacher": method.teacher}


def test_a_saved_target_goes_on_with_its_step():
    method, again = made(), made()
    for _ in range(3):
        tiny.stir(method.student)
        method.after_step()
    file = io.BytesIO()
    torch.save({name: module.state_dict() for name, module in method.modules().items()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    for name, module in again.modules().items():
        module.load_state_dict(state[name])
    assert again.teacher.step == 3 and again.teacher.keep_rate() == method.teacher.keep_rate() > 0.9
    for one in (method, again):
        one.after_step()
    assert all(torch.equal(a, b) for a, b in zip(method.teacher.parameters(), again.teacher.parameters(), strict=True))


def test_spread_shows_a_collapse():
    method, batch = made(), tiny.batch((1, 2))
    one = torch.tensor([[1.0, 2.0, 3.0]]) * torch.tensor([[1.0], [5.0], [0.1]])
    assert method.figures(batch, one)["spread"].item() == pytest.approx(0, abs=1e-4)
    apart = torch.eye(4)
    assert method.figures(batch, apart)["spread"].item() == pytest.approx(math.sqrt(3) / 2)
    assert method.figures(batch, apart)["ema_distance"] == 0
    tiny.stir(method.student)
    assert method.figures(batch, apart)["ema_distance"] > 0.01


def test_batch_norm_over_several_processes_needs_gpus(monkeypatch):
    assert distributed.with_norm_over_all(encoder := Encoder()) is encoder
    monkeypatch.setattr(distributed, "world", lambda: 2)
    with pytest.raises(InputError, match=r"^2 processes without GPUs: .*; take one process$"):
        made()


def test_batch_norm_of_several_gpus_sees_the_whole_batch(monkeypatch):
    monkeypatch.setattr(distributed, "world", lambda: 2)
    encoder = Encoder()
    encoder.parameters = lambda: iter([SimpleNamespace(device=torch.device("cuda", 0))])
    assert isinstance(distributed.with_norm_over_all(encoder).layers[1], nn.SyncBatchNorm)


def test_a_frozen_body_is_trained_and_comes_back():
    torch.manual_seed(0)
    frozen = tiny.stir(Body(**tiny.BODY))
    for module in frozen.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 2)
    images = torch.randn(3, 3, 64, 96)
    before = frozen(images)
    names, count = set(frozen.state_dict()), sum(isinstance(m, FrozenBatchNorm2d) for m in frozen.modules())
    body = _byol.with_trained_norm(frozen)
    norms = [module for module in body.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == count and not any(isinstance(m, FrozenBatchNorm2d) for m in body.modules())
    body.eval()
    for ours, theirs in zip(body(images), before, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    body.train()(images)[-1].square().sum().backward()
    assert all(norm.weight.grad is not None and norm.bias.grad is not None for norm in norms)
    state = state_without_counts(body)
    assert set(state) == names
    again = Body(**tiny.BODY)
    again.load_state_dict(state)
    body.eval()
    assert torch.allclose(again(images)[-1], body(images)[-1], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(again(images)[-1], before[-1], rtol=1e-3, atol=1e-3)  # its statistics have moved


def test_projector_and_predictor_are_those_of_byol():
    first, norm, relu, last = _byol.head(5, 9, 4)
    assert (first.in_features, first.out_features, norm.num_features) == (5, 9, 9)
    assert (last.in_features, last.out_features, last.bias) == (9, 4, None)
    assert isinstance(norm, nn.BatchNorm1d) and isinstance(relu, nn.ReLU)

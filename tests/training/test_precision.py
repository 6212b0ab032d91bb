"""bfloat16 and micro-batches change how a step is computed, not what it is."""

import pytest
import torch

from proseco.data.batch import collate
from proseco.methods import proseco
from proseco.training.devices import autocast
from proseco.training.schedules import Pixels
from tests.training import shared

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


def batch(images=5):
    source = shared.Source()
    return collate([shared.example(source[number]) for number in range(images)])


def step(made, device=shared.CPU, precision=torch.float32):
    """Terms, and the gradient as one vector, on the CPU."""
    made.student.to(device)
    for module in made.modules().values():
        module.to(device)
    found = {}
    for part in made.parts(batch().to(device)):
        with autocast(device, precision):
            terms, _ = made.losses(part)
        sum(terms.values()).backward()
        for name, value in terms.items():
            found[name] = found.get(name, 0.0) + value.item()
    gradients = [p.grad.flatten() for p in made.student.parameters() if p.grad is not None]
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    return found, torch.cat(gradients).cpu()


def close(one, two, *, terms, angle):
    assert two[0] == pytest.approx(one[0], rel=terms)
    assert torch.cosine_similarity(one[1], two[1], dim=0) > 1 - angle


BUILD = {"pretraining": shared.pretraining, "finetuning": shared.finetuning}


@pytest.mark.parametrize("name", BUILD)
def test_a_step_in_bfloat16_is_close(name):
    close(step(BUILD[name]()), step(BUILD[name](), precision=torch.bfloat16), terms=0.05, angle=0.05)


def test_a_training_in_bfloat16_keeps_float32_weights(tmp_path):
    found = shared.train(shared.pretraining(), tmp_path / "log.csv", steps=3, precision=torch.bfloat16)
    assert all(value.dtype == torch.float32 for value in found["weights"].values() if value.is_floating_point())
    truth = shared.train(shared.pretraining(), tmp_path / "log.csv", steps=3)
    for ours, theirs in zip(found["rows"], truth["rows"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=0.05) and ours["loss"] != theirs["loss"]


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("size", [1, 2, 5, 8, Pixels(1), Pixels(20_000)])
def test_micro_batches_give_the_gradient_of_the_batch(name, size):
    """For the contrastive loss too: its negatives are those of the whole batch, in float32 to rounding."""
    whole, parts = step(BUILD[name]()), step(BUILD[name](micro_batch=size))
    assert parts[0] == pytest.approx(whole[0], rel=1e-5)
    assert torch.allclose(parts[1], whole[1], rtol=1e-3, atol=1e-4 * whole[1].abs().max().item())


def test_micro_batches_hold_fewer_activations():
    """What the graph keeps between forward and backward, in bytes: of results alone instead of every layer."""
    kept = {}
    for size in (None, 1):
        sizes = []

        def count(tensor, sizes=sizes):
            sizes.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            shared.pretraining(micro_batch=size).losses(batch())
        kept[size] = sum(sizes)
    assert kept[1] < kept[None] / 4


@pytest.mark.parametrize(("limit", "images"), [(0, [1] * 5), (2, [2, 2, 1]), (4, [4, 1]), (5, [5]), (99, [5])])
def test_pixels_divide_only_what_has_more_of_them(monkeypatch, limit, images):
    """Where all fits, nothing is computed twice."""
    given, twice = batch(), []
    height, width = given.mask.shape[1:]
    pixels = Pixels(limit * height * width + 1)
    assert [len(part) for part in given.split(pixels)] == images
    monkeypatch.setattr(proseco, "checkpoint", lambda run, *inputs, use_reentrant: twice.append(1) or run(*inputs))
    shared.pretraining(micro_batch=pixels).losses(given)
    assert len(twice) == (len(images) if len(images) > 1 else 0)


def test_the_masks_of_dropout_are_those_of_the_first_pass(monkeypatch):
    """The second forward pass of a micro-batch must drop what the first did, or its gradient is of another loss."""
    found = []
    for again in (True, False):
        if not again:
            monkeypatch.setattr(proseco, "checkpoint", lambda run, *inputs, use_reentrant: run(*inputs))
        torch.manual_seed(3)
        found.append(step(shared.pretraining(micro_batch=2, dropout=0.5)))
    assert found[0][0] == found[1][0] and torch.equal(found[0][1], found[1][1])


@pytest.mark.gpu
@CUDA
@pytest.mark.parametrize("name", BUILD)
def test_a_gpu_computes_what_a_cpu_does(name):
    cuda = torch.device("cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    truth = step(BUILD[name]())
    close(truth, step(BUILD[name](), cuda), terms=1e-3, angle=1e-3)
    close(truth, step(BUILD[name](), cuda, torch.bfloat16), terms=0.05, angle=0.05)

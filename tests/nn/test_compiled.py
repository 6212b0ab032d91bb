"""The encoder's layers as torch.compile makes programs of them, against the layers themselves."""

import os
import subprocess
import sys

import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint

from proseco.base.errors import InputError
from proseco.nn import deformable_transformer, sampling
from proseco.nn.deformable_transformer import Encoder, EncoderLayer
from tests import tiny

SIZES = [(5, [(6, 9), (3, 5)]), (3, [(7, 4), (4, 2)]), (7, [(9, 9), (5, 5)]), (1, [(3, 8), (2, 4)])]


@pytest.fixture(autouse=True)
def fresh():
    """Programs of one test are not those of another."""
    torch._dynamo.reset()
    counters.clear()
    deformable_transformer.compiled.cache_clear()
    yield
    torch._dynamo.reset()
    deformable_transformer.compiled.cache_clear()


@pytest.fixture
def traced(monkeypatch):
    """The graphs of torch.compile, run as PyTorch's own operations: that takes a second and not ten."""
    run = torch.compile(EncoderLayer.forward, dynamic=True, backend="aot_eager")
    monkeypatch.setattr(deformable_transformer, "compiled", lambda: run)


def encoder(dropout=0.0):
    torch.manual_seed(0)
    made = Encoder(EncoderLayer(32, 48, dropout, levels=2, heads=4, points=2), 2)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


def run(made, monkeypatch, compiled, images, shapes, *, lowered=False, gradient=True, device="cpu"):
    """Output and gradients of one pass, on the CPU."""
    monkeypatch.setenv("PROSECO_COMPILE", "1" if compiled else "0")
    draws = torch.Generator().manual_seed(1)
    pixels = sum(h * w for h, w in shapes)
    x, position, grad_out = (torch.randn(images, pixels, 32, generator=draws) for _ in range(3))
    mask = torch.rand(images, pixels, generator=draws) < 0.2
    ratios = torch.rand(images, 2, 2, generator=draws) / 2 + 0.5
    x, position, grad_out, ratios, mask = (tensor.to(device) for tensor in (x, position, grad_out, ratios, mask))
    torch.manual_seed(3)
    x.requires_grad_(gradient)
    with torch.autocast(device, torch.bfloat16, enabled=lowered), torch.set_grad_enabled(gradient):
        out = made.to(device)(x, position, shapes, ratios, mask)
    found = [out.detach(), *torch.autograd.grad(out, [x, *made.parameters()], grad_out)] if gradient else [out]
    return [tensor.cpu() for tensor in found]


def near(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype and (a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1)


@pytest.mark.parametrize("kernels", [True, False], ids=["kernel", "plain"])
def test_a_few_graphs_serve_all_sizes_layers_and_modes(monkeypatch, traced, kernels):
    monkeypatch.setattr(sampling, "_has_kernels", torch.compiler.assume_constant_result(lambda device: kernels))
    student, teacher = encoder(), encoder().eval()
    for images, shapes in SIZES:
        for made, gradient in ((student, True), (teacher, False)):
            ours = run(made, monkeypatch, True, images, shapes, gradient=gradient)
            near(ours, run(made, monkeypatch, False, images, shapes, gradient=gradient), 1e-4)
    assert not counters["graph_break"] and counters["stats"]["unique_graphs"] <= 6, counters


def test_under_autocast(monkeypatch, traced):
    made = encoder()
    for images, shapes in SIZES[:2]:
        ours, theirs = (run(made, monkeypatch, how, images, shapes, lowered=True) for how in (True, False))
        near(ours, theirs, 2**-6)
    assert not counters["graph_break"]


def test_the_real_program_is_the_layers(monkeypatch):
    """In float32 and to its rounding; with dropout the same draws for the same seed."""
    made = encoder()
    for images, shapes in SIZES[:2]:
        near(*(run(made, monkeypatch, how, images, shapes) for how in (True, False)), 1e-4)
    made = encoder(dropout=0.3)
    one, again, eager = (run(made, monkeypatch, how, *SIZES[0]) for how in (True, True, False))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert 0.01 < (one[0] - eager[0]).abs().mean() < 1  # other draws


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("attention", ["plain", "triton"])
@pytest.mark.parametrize("lowered", [False, True])
def test_on_a_gpu(monkeypatch, attention, lowered):
    monkeypatch.setenv("PROSECO_ATTENTION", attention)
    torch.backends.cuda.matmul.allow_tf32 = False
    made = encoder()
    for images, shapes in SIZES[:2]:
        ways = (run(made, monkeypatch, how, images, shapes, lowered=lowered, device="cuda") for how in (True, False))
        near(*ways, 2**-5 if lowered else 1e-4)
    assert not counters["graph_break"] and counters["stats"]["unique_graphs"] <= 3


def test_names_and_weights_stay(monkeypatch, traced):
    monkeypatch.setenv("PROSECO_COMPILE", "1")
    detector = tiny.detector()
    names = list(detector.state_dict())
    batch = tiny.batch(views=1)
    out = detector(batch.views[0], batch.mask)
    assert counters["stats"]["unique_graphs"] >= 1 and list(detector.state_dict()) == names
    monkeypatch.setenv("PROSECO_COMPILE", "0")
    assert torch.allclose(detector(batch.views[0], batch.mask)["boxes"], out["boxes"], atol=1e-5)


def test_no_compiler_is_one_line(monkeypatch, tmp_path):
    """Of the host's; on a GPU Triton needs one too."""
    program = (
        "import torch\nfrom proseco.base import cli\n"
        "from proseco.nn.deformable_transformer import Encoder, EncoderLayer\n"
        "def main() -> None:\n    x, mask = torch.randn(3, 20, 32), torch.zeros(3, 20).bool()\n"
        "    Encoder(EncoderLayer(32, 64, 0.1, 1, 4, 4), 1)(x, x, [(4, 5)], torch.ones(3, 1, 2), mask)\ncli.run(main)"
    )
    variables = {"PROSECO_COMPILE": "1", "CXX": "nothing", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | variables, capture_output=True, text=True)
    said = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and said.startswith("error: PROSECO_COMPILE is 1, but there is no compiling: "), said
    assert "compiler" in said and "Traceback" not in done.stderr


def test_under_a_second_forward_pass(monkeypatch, traced):
    """As micro_batch has it: what the layers keep is dropped and computed again, dropout's masks among it."""
    made = encoder(dropout=0.3)
    plain = run(made, monkeypatch, True, *SIZES[0])
    forward = made.forward
    monkeypatch.setattr(made, "forward", lambda *given: checkpoint(forward, *given, use_reentrant=False))
    assert all(torch.equal(a, b) for a, b in zip(plain, run(made, monkeypatch, True, *SIZES[0]), strict=True))


def test_what_the_environment_may_say(monkeypatch):
    monkeypatch.setenv("PROSECO_COMPILE", "yes")
    with pytest.raises(InputError, match="PROSECO_COMPILE is 'yes'; it must be 0 or 1"):
        encoder()(*torch.randn(2, 1, 4, 32), [(2, 2)], torch.ones(1, 1, 2), torch.zeros(1, 4, dtype=torch.bool))
    monkeypatch.setenv("PROSECO_COMPILE", "1")
    monkeypatch.setenv("PROSECO_ATTENTION", "fast")
    with pytest.raises(InputError, match="no attention named 'fast'"):
        encoder()(*torch.randn(2, 1, 4, 32), [(2, 2)], torch.ones(1, 1, 2), torch.zeros(1, 4, dtype=torch.bool))

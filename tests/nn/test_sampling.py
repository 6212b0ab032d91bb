"""The kernels of deformable attention's sampling against the plain form: values and gradients, also where it is hard.

Triton's kernel runs in Triton's interpreter, where there is no GPU for it: the same program, a block at a time.
"""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from proseco import nn
from proseco.base.errors import InputError
from proseco.nn import _sampling, sampling
from proseco.nn.sampling import sample_levels, sample_levels_plain

HEADS, P, WIDTH = 2, 2, 5
ROOT = Path(__file__).parents[2]


@pytest.fixture
def triton_sample(monkeypatch):
    """On a GPU, or in the interpreter that tests/conftest.py asks for without one."""
    kernels = pytest.importorskip("proseco.nn._sampling_gpu", exc_type=ModuleNotFoundError)
    where = "cuda" if torch.cuda.is_available() else "cpu"
    monkeypatch.setattr(sampling, "_has_kernels", lambda device: True)
    monkeypatch.setattr(sampling, "_kernels", lambda device: kernels)

    def sample(value, shapes, points, weights):
        return sample_levels(value.to(where), shapes, points.to(where), weights.to(where)).cpu()

    return sample


@pytest.fixture(params=["compiled", "triton"])
def form(request):
    return sample_levels if request.param == "compiled" else request.getfixturevalue("triton_sample")


def given(shapes, *, dtype=torch.float64, low=-0.2, high=1.2, images=2, queries=7, seed=0):
    draws = torch.Generator().manual_seed(seed)
    pixels, levels = sum(h * w for h, w in shapes), len(shapes)
    value = torch.randn(images, pixels, HEADS, WIDTH, generator=draws, dtype=dtype)
    points = torch.rand(images, queries, HEADS, levels, P, 2, generator=draws, dtype=dtype) * (high - low) + low
    weights = torch.rand(images, queries, HEADS, levels, P, generator=draws, dtype=dtype)
    return [value.requires_grad_(), points.requires_grad_(), weights.requires_grad_()]


def both(form, shapes, tensors):
    """(result, its gradients) of the form and the plain one, for one random gradient of the result."""
    found = []
    for each in (form, sample_levels_plain):
        value, points, weights = tensors
        out = each(value, shapes, points, weights)
        grad_out = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=out.dtype)
        found.append([out.detach(), *torch.autograd.grad(out, tensors, grad_out)])
    return found


def equal(form, shapes, tensors, tolerance):
    for ours, plain in zip(*both(form, shapes, tensors), strict=True):
        assert (ours - plain).abs().max() <= tolerance * plain.abs().max().clamp(min=1)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(
    "shapes",
    [
        pytest.param([(4, 7), (3, 5)], id="levels that are not square"),
        pytest.param([(1, 1)], id="one pixel"),
        pytest.param([(5, 1), (1, 6), (1, 1), (2, 3)], id="lines and pixels"),
    ],
)
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.5, 1.5), (-40, 40)])
def test_values_and_gradients_are_those_of_the_plain_form(form, shapes, low, high, dtype, tolerance):
    equal(form, shapes, given(shapes, low=low, high=high, dtype=dtype), tolerance)


def test_points_on_centres_edges_and_corners(form):
    """Where a bilinear sample has kinks; powers of two, so that both forms place the points exactly."""
    shapes = [(4, 8), (2, 2)]
    value, points, weights = given(shapes, queries=64)
    steps = torch.arange(-2, 19, dtype=points.dtype) / 16  # centres and edges of both levels, and beyond
    draws = torch.randint(len(steps), points.shape, generator=torch.Generator().manual_seed(3))
    equal(form, shapes, [value, steps[draws].requires_grad_(), weights], 1e-12)


def test_all_padding_gives_nothing_and_sends_no_gradient_to_the_points(form):
    shapes = [(4, 7), (3, 5)]
    value, points, weights = given(shapes)
    out, grad_value, grad_points, grad_weights = both(
        form, shapes, [torch.zeros_like(value).requires_grad_(), points, weights]
    )[0]
    assert not out.any()
    assert not grad_points.any()
    assert not grad_weights.any()
    assert grad_value.any()


def test_gradients_are_those_of_small_moves(form):
    shapes = [(4, 7), (3, 5)]
    tensors = given(shapes, images=1, queries=3, seed=5)
    whole = form is sample_levels  # the interpreter needs seconds for a step of each entry; it takes steps of all
    many = {"fast_mode": not whole, "nondet_tol": 0.0 if whole else 1e-12}  # a GPU adds in any order
    assert torch.autograd.gradcheck(lambda v, p, w: form(v, shapes, p, w), tensors, **many)


def test_a_point_that_is_nan_shows(form):
    shapes = [(4, 7), (3, 5)]
    value, points, weights = (tensor.detach() for tensor in given(shapes))
    before = form(value, shapes, points, weights)
    points[1, 2, 0, 1, 1, 0] = math.nan
    out = form(value, shapes, points, weights)
    assert out[1, 2, :WIDTH].isnan().all()
    assert out.isnan().sum() == WIDTH
    assert torch.equal(out.nan_to_num(0), before.masked_fill(out.isnan(), 0))


@pytest.mark.parametrize("far", [math.inf, -math.inf, 1e30])
def test_a_point_far_outside_contributes_nothing(form, far):
    shapes = [(4, 7), (3, 5)]
    value, points, weights = (tensor.detach() for tensor in given(shapes, low=0.3, high=0.7))
    points[:, :, :, 1, 1] = far
    without = weights.clone()
    without[:, :, :, 1, 1] = 0
    inside = points.clone()
    inside[:, :, :, 1, 1] = 0.5
    expected = form(value, shapes, inside, without)
    assert torch.equal(form(value, shapes, points, weights), expected)


def test_the_bits_do_not_depend_on_the_number_of_threads():
    shapes = [(9, 7), (3, 5)]
    tensors = given(shapes, dtype=torch.float32, images=3, queries=50)
    found, threads = [], torch.get_num_threads()
    try:
        for count in (1, 2, 4, 50):
            torch.set_num_threads(count)
            found.append(both(sample_levels, shapes, tensors)[0])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_it_is_what_a_detector_on_a_cpu_uses():
    shapes = [(4, 7), (3, 5)]
    value, points, weights = given(shapes, dtype=torch.float32)
    out = sample_levels(value, shapes, points, weights)
    assert torch.equal(out, _sampling.forward(value.detach(), shapes, points.detach(), weights.detach()))
    assert not torch.equal(out, sample_levels_plain(value, shapes, points, weights))  # equal but for rounding


def test_of_bfloat16_nothing_is_summed_on_a_cpu():
    shapes = [(4, 7), (3, 5)]
    value, points, weights = given(shapes, dtype=torch.float32)
    low = [value.detach().bfloat16(), points.detach(), weights.detach().bfloat16()]
    grad_out = torch.randn(2, 7, HEADS * WIDTH, generator=torch.Generator().manual_seed(9)).bfloat16()
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        v, w = (tensor.to(dtype).requires_grad_() for tensor in (low[0], low[2]))
        p = low[1].clone().requires_grad_()
        out = sample_levels(v, shapes, p, w)
        assert out.dtype == dtype
        found.append([out.bfloat16(), *(g.bfloat16() for g in torch.autograd.grad(out, [v, p, w], grad_out.to(dtype)))])
    assert all(torch.equal(half, whole) for half, whole in zip(*found, strict=True))


def test_no_second_derivative(form):
    shapes = [(4, 7)]
    tensors = given(shapes)
    (first,) = torch.autograd.grad(form(tensors[0], shapes, *tensors[1:]).square().sum(), tensors[1], create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        first.sum().backward()


def test_no_image_and_no_query(form):
    shapes = [(4, 7)]
    for images, queries in ((0, 3), (2, 0)):
        tensors = given(shapes, images=images, queries=queries)
        out, grad_value, grad_points, grad_weights = both(form, shapes, tensors)[0]
        assert out.shape == (images, queries, HEADS * WIDTH) and not grad_value.any()
        assert grad_points.shape == (images, queries, HEADS, 1, P, 2) and grad_weights.shape == grad_points.shape[:-1]


def test_triton_reads_a_value_of_bfloat16_and_sums_in_float32(triton_sample):
    shapes = [(4, 7), (3, 5)]
    value, points, weights = given(shapes, dtype=torch.float32, queries=70)
    half = value.detach().bfloat16().requires_grad_()
    out = triton_sample(half, shapes, points, weights)
    plain = sample_levels_plain(half.detach().float(), shapes, points, weights)
    assert out.dtype == torch.bfloat16
    assert torch.allclose(
        out.float(), plain, atol=1e-6, rtol=2**-7
    )  # cut once, at the end; the interpreter rounds to 0
    grad_out = torch.randn(out.shape, generator=torch.Generator().manual_seed(9)).bfloat16()
    ours = torch.autograd.grad(out, [half, points, weights], grad_out)
    lifted = half.detach().float().requires_grad_()
    theirs = torch.autograd.grad(
        sample_levels_plain(lifted, shapes, points, weights), [lifted, points, weights], grad_out.float()
    )
    assert ours[0].dtype == torch.bfloat16
    assert torch.allclose(ours[0].float(), theirs[0], atol=1e-5, rtol=2**-8)
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        assert mine.dtype == torch.float32
        assert torch.allclose(mine, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("width", [1, 8, 32, 33])
def test_triton_takes_any_number_of_channels(triton_sample, width):
    shapes = [(4, 7), (3, 5)]
    _, points, weights = given(shapes)
    draws = torch.Generator().manual_seed(4)
    value = torch.randn(2, 43, HEADS, width, generator=draws, dtype=torch.float64).requires_grad_()
    equal(triton_sample, shapes, [value, points, weights], 1e-12)


@pytest.mark.parametrize("capability", [90, pytest.param(80, marks=pytest.mark.slow)])
def test_triton_compiles_for_gpus_that_are_not_here(tmp_path, capability):
    """Down to the GPU's own code, of the sizes of paper scale: on an H100 without barriers, shared memory or spills."""
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "benchmarks.sampling_code", "--capability", str(capability)]
    env = os.environ | {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names, *rows = (line.split() for line in done.stdout.replace("a sample", "sample").splitlines()[1:])
    found = {(row[0], row[1]): dict(zip(names, row, strict=True)) for row in rows}
    assert sorted(found) == [(kernel, kind) for kernel in ("backward", "forward") for kind in ("bfloat16", "float32")]
    assert all(int(kernel["instructions"]) > 100 and int(kernel["warps"]) >= 16 for kernel in found.values())
    assert all(int(found["backward", kind]["adds"]) > 0 for kind in ("bfloat16", "float32"))
    if capability == 90:
        assert {kernel[name] for kernel in found.values() for name in ("barriers", "shared", "stack")} == {"0"}


def test_a_gpu_samples_as_the_environment_says(monkeypatch):
    monkeypatch.delenv("PROSECO_ATTENTION", raising=False)
    assert [sampling._has_kernels(device) for device in ("cpu", "cuda", "mps")] == [True, False, False]
    monkeypatch.setenv("PROSECO_ATTENTION", "triton")
    assert [sampling._has_kernels(device) for device in ("cpu", "cuda", "mps")] == [True, True, False]
    monkeypatch.setenv("PROSECO_ATTENTION", "fast")
    with pytest.raises(InputError, match="no attention named 'fast'; there is plain, triton"):
        sampling._has_kernels("cuda")


@pytest.mark.parametrize("kernels", [True, False])
def test_points_and_sums_are_not_below_float32(monkeypatch, kernels):
    shapes, calls = [(4, 7), (3, 5)], []

    class Kernels:
        @staticmethod
        def forward(value, shapes, points, weights):
            calls.append((value.dtype, shapes, points.dtype, weights.dtype))
            return torch.zeros((), dtype=value.dtype)

    def plain(value, shapes, points, weights):
        return Kernels.forward(value, shapes, points, weights)

    monkeypatch.setattr(sampling, "_has_kernels", lambda device: kernels)
    monkeypatch.setattr(sampling, "_kernels", lambda device: Kernels)
    monkeypatch.setattr(sampling, "sample_levels_plain", plain)
    value, points, weights = (tensor.detach().bfloat16() for tensor in given(shapes))
    assert sample_levels(value, shapes, points, weights).dtype == torch.bfloat16
    # A kernel reads the value as it is, and lifts it itself.
    assert calls == [(torch.bfloat16 if kernels else torch.float32, shapes, torch.float32, torch.float32)]


def test_no_triton_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "proseco.nn._sampling_gpu", raising=False)
    monkeypatch.delattr(nn, "_sampling_gpu", raising=False)
    sampling._triton.cache_clear()
    with pytest.raises(InputError, match="PROSECO_ATTENTION is triton, but there is no module 'triton'"):
        sampling._triton()

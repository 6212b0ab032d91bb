"""The ResNet against torchvision's, key by key and number by number."""

import pytest
import torch
import torchvision
from torchvision.models import resnet18, resnet50
from torchvision.ops import FrozenBatchNorm2d
from torchvision.transforms import functional as tv

from proseco.base.errors import InputError
from proseco.nn import backbone
from proseco.nn.backbone import MEAN, STD, Body, ResNet, normalise
from tests.tiny import BODY

FIFTY = {"block": "bottleneck", "layers": (3, 4, 6, 3), "stem": 64, "widths": (64, 128, 256, 512)}
EIGHTEEN = FIFTY | {"block": "basic", "layers": (2, 2, 2, 2)}


def shake(network):
    """Batch statistics and factors that are not those of the initialisation."""
    draws = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if "running_mean" in name or (value.dim() == 1 and name.endswith("bias")):
            value.copy_(torch.randn(value.shape, generator=draws) * 0.1)
        elif "running_var" in name or (value.dim() == 1 and name.endswith("weight")):
            value.copy_(torch.rand(value.shape, generator=draws) * 0.5 + 0.75)
    return network


def image(height=64, width=96, count=2):
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("options", "peer"), [(FIFTY, resnet50), (EIGHTEEN, resnet18)])
def test_it_is_torchvisions_network(options, peer):
    theirs = shake(peer(weights=None, num_classes=7)).eval()
    ours = ResNet(**options, num_classes=7)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.allclose(ours.eval()(image()), theirs(image()), atol=1e-4, rtol=1e-4)
    body = Body(**options)
    names = {f"body.{name}" for name in theirs.state_dict() if not name.startswith("fc.") and "num_batches" not in name}
    assert set(body.state_dict()) == names
    expansion = 4 if peer is resnet50 else 1
    assert body.channels == ours.channels == (128 * expansion, 256 * expansion, 512 * expansion)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_the_body_is_the_stages_of_the_network_in_eval_mode(block):
    options = BODY | {"block": block, "layers": (1, 2, 1, 2)}
    network = shake(ResNet(**options, num_classes=3)).eval()
    body = Body(**options).train()
    found = body.body.load_state_dict(network.state_dict(), strict=False)
    assert set(found.unexpected_keys) == {"fc.weight", "fc.bias"}
    assert not found.missing_keys
    with torch.no_grad():
        x = network.maxpool(network.relu(network.bn1(network.conv1(image()))))
        stages = []
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            x = stage(x)
            stages.append(x)
        ours = body(image())
    assert [tuple(f.shape) for f in ours] == [
        (2, body.channels[level], 64 // stride, 96 // stride) for level, stride in enumerate((8, 16, 32))
    ]
    for mine, theirs in zip(ours, stages[1:], strict=True):
        assert torch.allclose(mine, theirs, atol=1e-4)


def test_statistics_stay_in_train_mode():
    body = shake(Body(**BODY)).train()
    before = {name: value.clone() for name, value in body.state_dict().items()}
    first = body(image())
    sum(f.square().mean() for f in first).backward()
    torch.optim.SGD(body.parameters(), 0.1).step()
    assert all(
        torch.equal(value, before[name]) for name, value in body.state_dict().items() if "bn" in name or ".1." in name
    )
    assert not torch.equal(body.body.conv1.weight, before["body.conv1.weight"])  # convolutions learn
    assert not any("bn" in name for name, _ in body.named_parameters())


def test_an_image_is_the_same_in_every_batch():
    body = shake(Body(**BODY)).train()
    with torch.no_grad():
        alone, together = body(image()[:1]), body(image())
    for one, both in zip(alone, together, strict=True):
        assert torch.allclose(one[0], both[0], atol=1e-5)


def test_odd_sizes_round_up():
    shapes = [tuple(f.shape[-2:]) for f in Body(**BODY)(image(65, 100, 1))]
    assert shapes == [(9, 13), (5, 7), (3, 4)]


def test_normalise_is_torchvisions_and_zero_on_padding():
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8, generator=draws)
    mask = torch.zeros(2, 5, 7, dtype=torch.bool)
    mask[1, 3:] = mask[1, :, 4:] = True
    ours = normalise(pixels, mask)
    truth = tv.normalize(pixels.float() / 255, MEAN, STD)
    assert ours.dtype == torch.float32
    assert torch.allclose(ours[0], truth[0], atol=1e-5)
    assert torch.allclose(ours[1, :, :3, :4], truth[1, :, :3, :4], atol=1e-5)
    assert ours.masked_select(mask[:, None]).eq(0).all()
    before = pixels.clone()
    decoded = pixels.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # as batches lie in memory
    assert torch.equal(normalise(decoded, mask), ours) and normalise(decoded, mask).is_contiguous()
    assert torch.equal(pixels, before) and torch.equal(decoded, before)  # bytes are left as they are
    preset = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    assert (tuple(preset.mean), tuple(preset.std)) == (MEAN, STD)


def norms_fold(norm, x):
    """As on a GPU."""
    return isinstance(norm, FrozenBatchNorm2d)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_a_folded_norm_changes_neither_features_nor_gradients(monkeypatch, block, dtype, tolerance):
    torch.manual_seed(0)
    body = shake(Body(**BODY | {"block": block, "layers": (1, 2, 1, 2)})).to(dtype)
    names, weights = zip(*body.named_parameters(), strict=True)
    calls = []
    for module in body.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.register_forward_hook(lambda *_: calls.append(1))

    def run():
        calls.clear()
        maps = body(image().to(dtype))
        return [*maps, *torch.autograd.grad(sum(f.square().mean() for f in maps), weights)], len(calls)

    plain, with_norms = run()
    monkeypatch.setattr(backbone, "can_fold", norms_fold)
    folded, without = run()
    assert with_norms > 10 and without == 0
    for name, one, other in zip(["8", "16", "32", *names], folded, plain, strict=True):
        # A float32 unit at the ReLU's kink may fall to its other side, gradient and all.
        if dtype == torch.float64 or name not in names:
            assert (one - other).abs().max() <= tolerance * other.abs().max(), name


def test_folding_keeps_maps_in_the_precision_of_autocast(monkeypatch):
    body = shake(Body(**BODY))
    exact = body(image())
    with torch.autocast("cpu", torch.bfloat16):
        plain = body(image())
        monkeypatch.setattr(backbone, "can_fold", norms_fold)
        folded = body(image())
    assert {f.dtype for f in plain} == {torch.float32} and {f.dtype for f in folded} == {torch.bfloat16}
    for one, other, truth in zip(folded, plain, exact, strict=True):
        distance = [(x.float() - truth).norm() / truth.norm() for x in (one, other)]
        assert distance[0] < 2 * distance[1] < 0.05


def test_what_does_not_fold():
    x = image()
    assert not backbone.can_fold(FrozenBatchNorm2d(3), x)  # on a CPU
    assert not backbone.can_fold(torch.nn.BatchNorm2d(3), x.to("meta"))


def test_channels_last_changes_no_feature(monkeypatch):
    body = shake(Body(**BODY))
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=draws)
    plain = body(normalise(pixels))
    monkeypatch.setattr(backbone, "memory_format", lambda images: torch.channels_last)
    assert normalise(pixels).is_contiguous(memory_format=torch.channels_last)
    for one, other in zip(body(normalise(pixels)), plain, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_a_gpu_has_the_cpus_features(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    body = shake(Body(**FIFTY))
    pixels = torch.randint(0, 256, (2, 3, 128, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = body(normalise(pixels))
    body.cuda()
    for one, other in zip(body(normalise(pixels.cuda())), expected, strict=True):
        assert torch.allclose(one.cpu(), other, atol=1e-3, rtol=1e-3)
    with torch.autocast("cuda", torch.bfloat16):
        maps = body(normalise(pixels.cuda()))
    for one, other in zip(maps, expected, strict=True):
        assert one.dtype == torch.bfloat16 and one.is_contiguous(memory_format=torch.channels_last)
        assert (one.float().cpu() - other).norm() < 0.05 * other.norm()


def test_an_unknown_block_is_named():
    with pytest.raises(InputError, match="no ResNet block named 'deep'; there is basic, bottleneck"):
        Body(**BODY | {"block": "deep"})

"""Convolutional backbones: torchvision classification networks that give features at strides 8, 16 and 32."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet
from torchvision.ops import FrozenBatchNorm2d

from proseco.base.errors import one_of
from proseco.nn.constants import constant


def can_fold(norm: nn.Module, x: Tensor) -> bool:
    """Whether ``norm`` can be merged into the convolution before it: a frozen norm on a GPU.

    Besides a pass over the map this avoids autocast promoting the map to float32.
    """
    return isinstance(norm, FrozenBatchNorm2d) and x.is_cuda


def conv_norm(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(conv(x))``; as one convolution where :func:`can_fold` allows, with gradients of the convolution's weights.

    The product of weights and factors is computed anew each time, in float32: even one image's map is larger.
    """
    if not can_fold(norm, x):
        return norm(conv(x))
    factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
    weight = conv.weight * factor[:, None, None, None]
    return F.conv2d(
        x, weight, norm.bias - norm.running_mean * factor, conv.stride, conv.padding, conv.dilation, conv.groups
    )


class _BasicBlock(resnet.BasicBlock):
    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(conv_norm(self.conv1, self.bn1, x))
        out = conv_norm(self.conv2, self.bn2, out)
        return self.relu(out.add_(_shortcut(self, x)))


class _Bottleneck(resnet.Bottleneck):
    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(conv_norm(self.conv1, self.bn1, x))
        out = self.relu(conv_norm(self.conv2, self.bn2, out))
        out = conv_norm(self.conv3, self.bn3, out)
        return self.relu(out.add_(_shortcut(self, x)))


def _shortcut(block: nn.Module, x: Tensor) -> Tensor:
    return x if block.downsample is None else conv_norm(*block.downsample, x)


BLOCKS = {"basic": _BasicBlock, "bottleneck": _Bottleneck}


class ResNet(resnet.ResNet):
    """torchvision's ResNet with the widths of its stem and stages as arguments; same names, same forward.

    With ``stem=64, widths=(64, 128, 256, 512), layers=(3, 4, 6, 3), block="bottleneck"`` it is ResNet-50, key by key.
    """

    def __init__(self, *, block: str, layers, stem: int, widths, num_classes: int, norm=nn.BatchNorm2d):
        nn.Module.__init__(self)
        if block not in BLOCKS:
            raise one_of("ResNet block", block, BLOCKS, "detector.backbone.block")
        self._norm_layer = norm
        self.inplanes, self.dilation, self.groups, self.base_width = stem, 1, 1, 64
        make = partial(self._make_layer, BLOCKS[block])
        self.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        self.bn1 = norm(stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = make(widths[0], layers[0])
        self.layer2 = make(widths[1], layers[1], stride=2)
        self.layer3 = make(widths[2], layers[2], stride=2)
        self.layer4 = make(widths[3], layers[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.channels = tuple(width * BLOCKS[block].expansion for width in widths[1:])
        self.fc = nn.Linear(self.channels[-1], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stages(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> [(B, C_i, H/s, W/s) for s in 4, 8, 16, 32]."""
        x = self.maxpool(self.relu(conv_norm(self.conv1, self.bn1, images)))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


class Body(nn.Module):
    """A ResNet without its classifier and with frozen batch norm: images -> features at strides 8, 16, 32.

    Keys: ``body.conv1.weight`` ..., as in the public DETR code. Batch statistics are constants (Section 4.1), so a
    batch of two images gives the same features as a batch of 64.
    """

    def __init__(self, **options):
        super().__init__()
        self.body = ResNet(**options, num_classes=1, norm=FrozenBatchNorm2d)
        self.channels = self.body.channels
        del self.body.fc

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) normalised -> [(B, C_i, H/s, W/s) for s in 8, 16, 32]."""
        return self.body.stages(images)[1:]


#: The parts of a body, stage by stage.
STAGES = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))


def freeze(detector: nn.Module, stages: int) -> None:
    """Freeze the first ``stages`` of a detector's body, 0 to 5; 1 is the stem, 2 the stem and ``layer1``.

    Deformable DETR's public code, and DETReg's after it, train from ``layer2`` on: 2, as detectron2's FREEZE_AT counts.
    """
    below = tuple(f"{detector.body_prefix}{part}." for stage in STAGES[:stages] for part in stage)
    for name, parameter in detector.named_parameters():
        if name.startswith(below):
            parameter.requires_grad_(False)


def state_without_counts(module: nn.Module) -> dict[str, Tensor]:
    """State dict without batch norm's counts of batches, which frozen batch norm does not have."""
    return {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}


#: Statistics of ImageNet, in 0..1, RGB: torchvision's, which every public backbone uses.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def memory_format(images: Tensor) -> torch.memory_format:
    """Memory format for ``images``: channels last for bfloat16 on a GPU, contiguous otherwise.

    Batches come channels last, as images are decoded, and a GPU's bfloat16 convolutions are fastest that way; those of
    float32 without TF32 are not made for it. On a CPU the backward pass of small channels-last convolutions writes
    beyond its memory (torch 2.15 with oneDNN; found by tests/detectors).
    """
    lowered = images.is_cuda and torch.is_autocast_enabled("cuda")
    return torch.channels_last if lowered else torch.contiguous_format


def normalise(images: Tensor, mask: Tensor | None = None) -> Tensor:
    """uint8 RGB (B, 3, H, W) on any device -> float32, zero mean and unit deviation, exactly 0 on padding.

    :param mask: (B, H, W) bool, True on padding; None where there is none.
    """
    mean = constant(MEAN, images.device).view(3, 1, 1) * 255
    std = constant(STD, images.device).view(3, 1, 1) * 255
    # The memory format is set while a pixel is a byte; the rest works in place on the copy that float() makes of bytes.
    normal = images.contiguous(memory_format=memory_format(images)).float().sub_(mean).div_(std)
    return normal if mask is None else normal.masked_fill_(mask[:, None], 0)

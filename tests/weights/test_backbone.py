"""Backbone files as they are published, made here: torchvision's, SwAV's, nested ones; and files that are none."""

import argparse
import os
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

from proseco.base.errors import InputError
from proseco.nn.backbone import Body, ResNet
from proseco.weights import backbone, checkpoint
from tests import params_file, tiny

ROOT = Path(__file__).resolve().parents[2]


def network(seed=0):
    torch.manual_seed(seed)
    return tiny.stir(ResNet(**tiny.BODY, num_classes=6)).state_dict()


def body_of(state):
    return {k: v for k, v in state.items() if not k.startswith("fc.") and "num_batches_tracked" not in k}


def equal(found, state):
    return found.keys() == state.keys() and all(torch.equal(value, state[name]) for name, value in found.items())


def prefixed(prefix, state):
    return OrderedDict((prefix + name, value) for name, value in state.items())


def numbered(state):
    """As the children of a ResNet are named in a Sequential."""
    net = ResNet(**tiny.BODY, num_classes=6)
    net.load_state_dict(state)
    return nn.Sequential(*list(net.children())[:-1]).state_dict()


NET = network()
HEADS = {"module.projection_head.0.weight": torch.ones(7, 24), "module.prototypes.weight": torch.ones(5, 8)}
WAYS = {
    "torchvision": NET,
    "swav": prefixed("module.", body_of(NET)) | HEADS,
    "state_dict": {"epoch": 800, "arch": "resnet50", "state_dict": prefixed("module.", NET), "best": 0.5},
    "state_dict in model": {"model": {"state_dict": NET}},
    "arguments": {"model": NET, "args": argparse.Namespace(lr=2e-4, dilation=False), "optimizer": {"state": {}}},
    "online": {"online_network": prefixed("encoder.", NET), "predictor": {"weight": torch.ones(2)}},
    "numbered": {"encoder": numbered(NET) | {"projector.0.weight": torch.ones(7, 24)}},
    "moco": {"state_dict": prefixed("module.encoder_q.", NET) | {"module.queue": torch.ones(8, 3)}},
    "half": {name: v.half().float() if v.is_floating_point() else v for name, v in NET.items()},
}


@pytest.mark.parametrize("way", WAYS)
def test_public_files_are_read(tmp_path, way):
    path = tmp_path / "net.pth.tar"
    torch.save(WAYS[way], path)
    found = backbone.read(path)
    if way == "half":
        torch.save({name: v.half() if v.is_floating_point() else v for name, v in NET.items()}, path)
        found = backbone.read(path)
        assert all(value.dtype == torch.float32 for value in found.values())
        assert equal(found, body_of(WAYS["half"]))
    else:
        assert equal(found, body_of(NET))
    body = Body(**tiny.BODY)
    checkpoint.load_into(body.body, found, source=str(path), new=(), unused=())
    assert torch.equal(body.body.layer4[0].conv1.weight, found["layer4.0.conv1.weight"])


def test_safetensors_ours_and_others(tmp_path):
    save_file({name: value.contiguous() for name, value in NET.items()}, tmp_path / "plain.safetensors")
    assert equal(backbone.read(tmp_path / "plain.safetensors"), body_of(NET))
    checkpoint.save(tmp_path / "ours.safetensors", {"backbone": NET}, {})
    assert equal(backbone.read(tmp_path / "ours.safetensors"), body_of(NET))


def test_torchvisions_names_are_ours(tmp_path):
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    body = Body(block="basic", layers=(2, 2, 2, 2), stem=64, widths=(64, 128, 256, 512))
    found = backbone.read(tmp_path / "resnet18.pth")
    checkpoint.load_into(body.body, found, source="resnet18", new=(), unused=())


def test_a_detectors_backbone_can_be_taken(tmp_path):
    model = tiny.detector()
    torch.save({"model": model.state_dict()}, tmp_path / "detr.pth")
    found = backbone.read(tmp_path / "detr.pth")
    assert equal(found, model.backbone[0].body.state_dict())


@pytest.mark.parametrize("change", [lambda value: value / 0, lambda value: value.to(torch.int8)])
def test_weights_that_no_network_can_use(tmp_path, change):
    torch.save(NET | {"bn1.weight": change(NET["bn1.weight"])}, tmp_path / "net.pth")
    with pytest.raises(
        InputError, match=r"net\.pth': bn1\.weight (holds values that are not finite|is of torch\.int8)"
    ):
        backbone.read(tmp_path / "net.pth")


def test_of_two_networks_one_must_be_chosen(tmp_path):
    other = network(1)
    path = tmp_path / "pair.pth"
    torch.save({"state_dict": prefixed("online.", NET) | prefixed("target.", other)}, path)
    with pytest.raises(InputError, match=r"several ResNets \(online\., target\.\); choose one with prefix"):
        backbone.read(path)
    assert equal(backbone.read(path, prefix="target."), body_of(other))
    assert equal(backbone.read(path, prefix="online."), body_of(NET))
    with pytest.raises(InputError, match=r"no prefix named 'online'; there is 'online\.', 'target\.' \(.*pair\.pth\)"):
        backbone.read(path, prefix="online")


def test_scrls_file(tmp_path):
    """Its program saves two networks, whose ResNets it has put into Sequentials, and all that training goes on from."""

    def backbone_of(state):
        head = {"projector.linear1.weight": torch.ones(7, 24), "projector.bn1.weight": torch.ones(7)}
        return prefixed("encoder.", numbered(state)) | head

    other, path = network(1), tmp_path / "scrl_1000ep.pth"
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.2, "params": [0]}]}
    whole = {"tag": "1000", "epoch": 1000, "max_eval_score": 70.67, "max_eval_epoch": 1000}
    whole |= {"online_network_state_dict": backbone_of(NET), "target_network_state_dict": backbone_of(other)}
    whole |= {"predictor_state_dict": {"bn1.weight": torch.ones(5)}, "optimizer_state_dict": optimizer}
    torch.save(whole, path)
    entry = params_file.parameters()["scales"]["paper"]["backbones"]["scrl"]
    assert equal(backbone.read(path, prefix=entry["prefix"]), body_of(NET))
    with pytest.raises(InputError, match=r"several ResNets \(online_network_state_dict\.encoder\., target_network_"):
        backbone.read(path)


def test_a_file_without_a_resnet(tmp_path):
    torch.save({"state_dict": {"blocks.0.weight": torch.ones(3)}}, tmp_path / "vit.pth")
    with pytest.raises(InputError, match=r"vit\.pth' holds no ResNet; its names begin \['blocks\.0\.weight'\]"):
        backbone.read(tmp_path / "vit.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(InputError, match="no ResNet"):
        backbone.read(tmp_path / "list.pth")


def test_another_resnet_is_named_when_it_is_loaded(tmp_path):
    torch.save(NET, tmp_path / "net.pth")
    wide = Body(**tiny.BODY | {"stem": 16})
    with pytest.raises(InputError, match=r"of another shape \(conv1\.weight, bn1\.weight, bn1\.bias, \.\.\.\)"):
        checkpoint.load_into(wide.body, backbone.read(tmp_path / "net.pth"), source="net.pth", new=(), unused=())


class Trap:
    """Runs a command when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path):
    torch.save({"state_dict": NET, "hook": Trap(tmp_path / "sprung")}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=r"bad\.pth': it holds \w+\.mkdir; only tensors and plain values are read$"):
        backbone.read(tmp_path / "bad.pth")
    assert not (tmp_path / "sprung").exists()
    torch.load(tmp_path / "bad.pth", weights_only=False)
    assert (tmp_path / "sprung").exists()  # the trap is one


RUBBISH = {
    "empty": b"",
    "page": b"<!DOCTYPE html><html>404</html>",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 102\n",
    "words": b"hello, this is no checkpoint",
    "zip": b"PK\x03\x04 and nothing more",
    "zeros": bytes(64),
}


@pytest.mark.parametrize("suffix", [".pth", ".pth.tar", ".safetensors"])
@pytest.mark.parametrize("kind", RUBBISH)
def test_rubbish_is_named(tmp_path, kind, suffix):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(RUBBISH[kind])
    with pytest.raises(InputError, match=r"cannot read checkpoint .*file[a-z.]+': \w+") as error:
        backbone.read(path)
    assert "\n" not in str(error.value)
    assert "weights_only" not in str(error.value)  # no advice to read it unprotected


def test_half_a_file_and_none(tmp_path):
    for suffix, write in ((".pth", torch.save), (".safetensors", save_file)):
        path = tmp_path / f"whole{suffix}"
        write({name: value.contiguous() for name, value in NET.items()}, path)
        half = tmp_path / f"half{suffix}"
        half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InputError, match="cannot read checkpoint"):
            backbone.read(half)
    with pytest.raises(InputError, match=r"no checkpoint .*none"):
        backbone.read(tmp_path / "none.pth")
    with pytest.raises(InputError, match="no checkpoint"):
        backbone.read(tmp_path)

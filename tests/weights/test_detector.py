"""Detector files as they are published, made here; files of other models; and files that must not be read."""

import argparse

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import detection, resnet18

from proseco.base.errors import InputError
from proseco.weights import checkpoint, detector
from tests import public_files, references, tiny
from tests.public_files import content, detreg

MODEL = tiny.detector(box_refinement=True)


def equal(found, model):
    state = model.state_dict()
    return found.keys() == state.keys() and all(torch.equal(value, state[name]) for name, value in found.items())


WAYS = {
    "deformable detr": lambda: content(MODEL),
    "detreg": lambda: detreg(MODEL),
    "data parallel": lambda: detreg(MODEL, prefix="module."),
    "state dict alone": lambda: content(MODEL)["model"],
    "segmentation": lambda: content(MODEL, prefix="detr."),
}


@pytest.mark.parametrize("way", WAYS)
def test_public_files_are_read(tmp_path, way):
    made = WAYS[way]()
    torch.save(made, tmp_path / "public.pth")
    found = detector.read(tmp_path / "public.pth")
    assert equal(found.state, MODEL)
    heads = (
        ["feature_embed.layers.0.weight", "feature_embed.layers.1.bias"] if way in ("detreg", "data parallel") else []
    )
    rest = [] if way == "state dict alone" else ["optimizer.state.0.step", "optimizer.state.0.exp_avg"]
    assert set(found.other_names) == {*heads, *rest, *(["optimizer.state.0.exp_avg_sq"] if rest else [])}
    stated = {"args": vars(made["args"])} if "args" in made else {}
    assert found.facts == stated


def test_half_precision_becomes_single(tmp_path):
    torch.save(content(MODEL, dtype=torch.float16), tmp_path / "half.pth")
    found = detector.read(tmp_path / "half.pth").state
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert all(torch.equal(value, MODEL.state_dict()[name].half().float()) for name, value in found.items())


def test_ours_is_read_back_network_by_network(tmp_path):
    other = tiny.detector(seed=1, box_refinement=True)
    projector = {"projector.layers.0.weight": torch.ones(2)}
    states = {"student": MODEL.state_dict() | projector, "teacher": other.state_dict()}
    checkpoint.save(tmp_path / "ours.safetensors", states, {"steps": 7})
    found = detector.read(tmp_path / "ours.safetensors", network="student")
    assert equal(found.state, MODEL)
    assert found.facts == {"steps": 7}
    assert {name.split(".")[0] for name in found.other_names} == {"projector", "teacher"}
    assert equal(detector.read(tmp_path / "ours.safetensors", network="teacher").state, other)
    with pytest.raises(
        InputError, match=r"ours\.safetensors' holds the networks student, teacher; choose one \(network\)"
    ):
        detector.read(tmp_path / "ours.safetensors")
    with pytest.raises(InputError, match=r"no network named 'ema'; there is student, teacher"):
        detector.read(tmp_path / "ours.safetensors", network="ema")


def test_of_a_network_and_its_average_the_network_is_read(tmp_path):
    average = tiny.detector(seed=1, box_refinement=True)
    torch.save(content(MODEL) | {"model_ema": average.state_dict()}, tmp_path / "both.pth")
    assert equal(detector.read(tmp_path / "both.pth").state, MODEL)
    assert equal(detector.read(tmp_path / "both.pth", network="model_ema").state, average)


def transformers_names(folder):
    references.reference(references.detector({}, stirred=False), {}, folder).save_pretrained(folder / "theirs")
    return folder / "theirs" / "model.safetensors"


def torchvision_model(name):
    build = getattr(detection, name)
    return lambda: build(weights=None, weights_backbone=None, num_classes=3).state_dict()


OTHERS = {
    "plain DETR": public_files.plain_detr,
    "Mask R-CNN": torchvision_model("maskrcnn_resnet50_fpn"),
    "Faster R-CNN": torchvision_model("fasterrcnn_resnet50_fpn"),
    "FCOS": torchvision_model("fcos_resnet50_fpn"),
    "RetinaNet": torchvision_model("retinanet_resnet50_fpn"),
    "a ResNet, which may stand under scales.<scale>.backbones": lambda: resnet18(weights=None).state_dict(),
    "a vision transformer": lambda: {"blocks.0.attn.qkv.weight": torch.ones(3)},
    "no model that is known here": lambda: {"conv.weight": torch.ones(3)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_model_is_refused_by_name(tmp_path, name):
    with torch.device("meta"):  # names are all that is looked at
        state = OTHERS[name]()
    torch.save(
        {"model": {key: torch.zeros(value.shape).expand(value.shape) for key, value in state.items()}},
        tmp_path / "x.pth",
    )
    with pytest.raises(InputError, match=rf"x\.pth' looks like {name}, not like Deformable DETR; its names begin \["):
        detector.read(tmp_path / "x.pth")


def test_transformers_own_file_is_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="looks like Deformable DETR in the names of transformers, not like"):
        detector.read(transformers_names(tmp_path))


def test_code_in_a_pickle_is_refused_and_not_run(tmp_path):
    torch.save(content(MODEL) | {"hook": public_files.Trap(tmp_path / "sprung")}, tmp_path / "bad.pth")
    with pytest.raises(InputError, match=r"bad\.pth': it holds \w+\.mkdir; only tensors and plain values are read$"):
        detector.read(tmp_path / "bad.pth")
    nested = content(MODEL, hook=public_files.Trap(tmp_path / "sprung"))  # inside the namespace, which is allowed
    assert isinstance(nested["args"], argparse.Namespace)
    torch.save(nested, tmp_path / "bad.pth")
    with pytest.raises(InputError, match="only tensors and plain values are read"):
        detector.read(tmp_path / "bad.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file(tmp_path, share):
    for name, write in (("x.pth", lambda p: torch.save(content(MODEL), p)), ("x.safetensors", _ours)):
        write(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match=rf"cannot read checkpoint .*{name}"):
            detector.read(tmp_path / name)


@pytest.mark.parametrize("header", ["[]", "{", '"x"', '{"detector": [1]}', '{"classes": "harbour"}', "[" * 100_000])
def test_a_header_that_no_program_of_ours_writes(tmp_path, header):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", metadata={"proseco": header})
    with pytest.raises(InputError, match=r"x\.safetensors' says of itself \(header proseco\) what no program"):
        detector.read(tmp_path / "x.safetensors")


def _ours(path):
    checkpoint.save(path, {"detector": MODEL.state_dict()}, {})


def test_two_networks_under_the_same_names(tmp_path):
    torch.save({"model": MODEL.state_dict(), "state_dict": MODEL.state_dict()}, tmp_path / "two.pth")
    with pytest.raises(InputError, match="holds two networks with the same names"):
        detector.read(tmp_path / "two.pth")


def test_whole_numbers_are_no_weights(tmp_path):
    made = content(MODEL)
    name = next(name for name in made["model"] if name.endswith("linear1.weight"))
    made["model"][name] = made["model"][name].to(torch.int8)
    torch.save(made, tmp_path / "small.pth")
    with pytest.raises(InputError, match=r"small\.pth': .*linear1\.weight is of torch\.int8"):
        detector.read(tmp_path / "small.pth")


def test_values_that_are_not_finite(tmp_path):
    made = content(MODEL)
    made["model"]["transformer.level_embed"][1, 2] = float("nan")
    torch.save(made, tmp_path / "nan.pth")
    with pytest.raises(InputError, match=r"nan\.pth': transformer\.level_embed holds values that are not finite"):
        detector.read(tmp_path / "nan.pth")

"""Our checkpoints: what goes in comes out, equal bytes twice, every key accounted for."""

import json
import math

import pytest
import torch
from safetensors import safe_open
from torch import nn

from proseco.base.errors import InputError
from proseco.nn.backbone import Body
from proseco.weights import checkpoint
from tests import tiny


def network(seed=0, outputs=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, outputs))


def test_round_trip(tmp_path):
    states = {"student": network(0).state_dict(), "teacher": network(1).state_dict()}
    path = tmp_path / "deep" / "down" / "a.safetensors"
    checkpoint.save(path, states, {"steps": 7, "delta": 0.5})
    for name, state in states.items():
        loaded = checkpoint.load(path, name)
        assert list(loaded) == sorted(state)
        assert all(torch.equal(value, loaded[key]) and value.dtype == loaded[key].dtype for key, value in state.items())
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["proseco"]) == {"steps": 7, "delta": 0.5}
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]


def test_equal_weights_and_facts_give_equal_bytes(tmp_path):
    student, teacher = network(0).state_dict(), network(1).state_dict()
    checkpoint.save(tmp_path / "a", {"student": student, "teacher": teacher}, {"b": 1, "a": [2, None]})
    turned = dict(reversed(student.items()))
    checkpoint.save(tmp_path / "b", {"teacher": teacher, "student": turned}, {"a": [2, None], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    checkpoint.save(tmp_path / "c", {"student": student, "teacher": teacher}, {"b": 2, "a": [2, None]})
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_tied_weights_are_written_under_each_of_their_names(tmp_path):
    model = tiny.detector()  # its heads are one
    checkpoint.save(tmp_path / "a", {"detector": model.state_dict()}, {})
    loaded = checkpoint.load(tmp_path / "a", "detector")
    assert set(loaded) == set(model.state_dict())
    assert torch.equal(loaded["class_embed.0.weight"], loaded["class_embed.1.weight"])
    other = tiny.detector(seed=1)
    checkpoint.load_into(other, loaded, source="a", new=(), unused=())
    assert all(torch.equal(value, loaded[key]) for key, value in other.state_dict().items())


def test_views_and_gradients_can_be_saved(tmp_path):
    whole = torch.randn(4, 6, requires_grad=True)
    checkpoint.save(tmp_path / "a", {"net": {"turned": whole.T, "part": whole[1:, ::2]}}, {})
    loaded = checkpoint.load(tmp_path / "a", "net")
    assert torch.equal(loaded["turned"], whole.T)
    assert torch.equal(loaded["part"], whole[1:, ::2])


def test_a_network_that_is_not_there(tmp_path):
    states = {"student": {"w": torch.ones(1)}, "students": {"w": torch.zeros(1)}}
    checkpoint.save(tmp_path / "a.safetensors", states, {})
    assert checkpoint.load(tmp_path / "a.safetensors", "student") == {"w": torch.ones(1)}
    with pytest.raises(InputError, match=r"a\.safetensors' holds no 'teacher'; it holds student, students"):
        checkpoint.load(tmp_path / "a.safetensors", "teacher")


def test_a_file_that_cannot_be_read(tmp_path):
    (tmp_path / "text.safetensors").write_text("version https://example.org/spec/v1")
    checkpoint.save(tmp_path / "whole.safetensors", {"net": network().state_dict()}, {})
    (tmp_path / "half.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-8])
    for name in ("missing", "text", "half"):
        with pytest.raises(InputError, match=rf"cannot read checkpoint .*{name}\.safetensors"):
            checkpoint.load(tmp_path / f"{name}.safetensors", "net")


def test_every_key_is_accounted_for():
    state = network(1, outputs=7).state_dict()
    state["head.weight"] = torch.ones(2)
    del state["1.running_mean"]
    module = network(0)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(InputError) as error:
        checkpoint.load_into(module, state, source="public.pth", new=(), unused=())
    message = str(error.value)
    assert "public.pth" in message
    assert "1 missing (1.running_mean)" in message
    assert "1 unexpected (head.weight)" in message
    assert "2 of another shape (2.weight, 2.bias)" in message
    assert "\n" not in message
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())  # nothing was loaded


def test_statistics_are_loaded_as_weights_are():
    given, fresh = Body(**tiny.BODY), Body(**tiny.BODY)
    for value in given.state_dict().values():
        value.uniform_(0.5, 2)
    checkpoint.load_into(fresh, given.state_dict(), source="", new=(), unused=())
    assert all(torch.equal(value, given.state_dict()[key]) for key, value in fresh.state_dict().items())


def test_many_keys_are_shortened():
    with pytest.raises(InputError, match=r"9 missing \(0\.weight, 0\.bias, 1\.weight, \.\.\.\)"):
        checkpoint.load_into(network(), {}, source="empty", new=(), unused=())


def test_what_may_be_new_or_unused():
    module, other = network(0), network(1)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    state = {key: value for key, value in other.state_dict().items() if not key.startswith("2.")}
    state |= {"projector.weight": torch.ones(3), "projector2": torch.ones(3)}
    checkpoint.load_into(module, state, source="a", new=("2.",), unused=("projector",))
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith("2.") else other.state_dict()[key])
    with pytest.raises(InputError, match=r"1 unexpected \(projector2\)"):
        checkpoint.load_into(module, state, source="a", new=("2.",), unused=("projector.",))


def test_an_unused_key_may_have_any_shape():
    state = network(1, outputs=7).state_dict()
    module = network(0, outputs=3)
    kept = module[2].weight.clone()
    checkpoint.load_into(module, state, source="a", new=("2.",), unused=("2.",))
    assert torch.equal(module[2].weight, kept)


def test_copies_of_a_tied_weight_must_be_equal():
    model = tiny.detector()  # its heads are one
    state = {key: value.clone() for key, value in model.state_dict().items()}
    checkpoint.load_into(model, state, source="a", new=(), unused=())
    state["class_embed.1.bias"] += 1
    with pytest.raises(InputError, match=r"1 untied \(class_embed\.1\.bias\)"):
        checkpoint.load_into(model, state, source="a", new=(), unused=())
    refined = tiny.detector(box_refinement=True)  # its class heads are two
    state = {key: value.clone() for key, value in refined.state_dict().items()}
    state["class_embed.1.bias"] += 1
    checkpoint.load_into(refined, state, source="a", new=(), unused=())
    assert torch.equal(refined.class_embed[1].bias, state["class_embed.1.bias"])
    state["transformer.decoder.bbox_embed.0.layers.2.bias"] += 1  # the decoder's are the detector's
    found = checkpoint.compare(refined, state)
    assert found["untied"] == ["transformer.decoder.bbox_embed.0.layers.2.bias"] or found["untied"] == [
        "bbox_embed.0.layers.2.bias"
    ]


def test_differences_can_be_told_without_the_network():
    with torch.device("meta"):
        module = network()
    state = network(1, outputs=7).state_dict() | {"extra": torch.ones(1)}
    del state["0.bias"]
    found = checkpoint.compare(module, state)
    assert found == {
        "missing": ["0.bias"],
        "unexpected": ["extra"],
        "of another shape": ["2.weight", "2.bias"],
        "untied": [],
    }


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_values_that_are_not_finite(tmp_path, value):
    state = {"weight": torch.ones(3), "norm.running_var": torch.tensor([0.0, value])}
    other = {"weight": torch.ones(3), "mask": torch.tensor([0.0, value])}
    checkpoint.save(tmp_path / "x", {"net": state, "other": other}, {})
    with pytest.raises(InputError, match=r"x': norm\.running_var holds values that are not finite"):
        checkpoint.load(tmp_path / "x", "net")
    assert checkpoint.load(tmp_path / "x", "other").keys() == other.keys()  # a network's buffers may hold anything


def test_whole_numbers_are_no_weights(tmp_path):
    state = {"bn.num_batches_tracked": torch.tensor(7), "bias": torch.ones(3, dtype=torch.float16)}
    state["position_index"] = torch.arange(4)
    checkpoint.save(tmp_path / "x", {"net": state}, {})
    assert checkpoint.load(tmp_path / "x", "net").keys() == state.keys()
    checkpoint.save(tmp_path / "x", {"net": state | {"fc.weight": torch.ones(3, dtype=torch.int8)}}, {})
    with pytest.raises(InputError, match=r"x': fc\.weight is of torch\.int8; expected floating-point numbers"):
        checkpoint.load(tmp_path / "x", "net")

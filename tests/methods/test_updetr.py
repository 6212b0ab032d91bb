"""UP-DETR: patches given to groups of queries that do not see each other, and reconstructed."""

import pytest
import torch

from proseco.base.errors import InputError
from proseco.methods import _patches, updetr
from proseco.runs.finetuning import load_start
from proseco.weights import checkpoint
from tests import oracles, tiny

W = {"class": 2.0, "coord": 5.0, "giou": 1.5, "feature": 0.7}
PATCHES = 3


def method(mask_ratio=0.0, patches=PATCHES, micro_batch=None, **changes):
    torch.manual_seed(1)
    weights = {f"lambda_{name}": value for name, value in W.items()}
    options = {"side": 32, "mask_ratio": mask_ratio, "patches": patches, "micro_batch": micro_batch}
    made = updetr.build(tiny.detector(num_classes=None, **changes), weak={}, **options, **weights)
    tiny.stir(made.student.detector.class_embed, seed=2, noise=0.5)
    made.student.eval()
    return made


def batch(images=2, patches=PATCHES):
    return tiny.batch((patches,) * images, views=1, classes=1)


def told(made, data, monkeypatch):
    """What the decoder is given: (B, N, D), (N, N)."""
    seen, decode = {}, made.student.detector.decode

    def spy(features, mask, **options):
        seen.update(options)
        return decode(features, mask, **options)

    with monkeypatch.context() as patch:
        patch.setattr(made.student.detector, "decode", spy)
        made.predict(data)
    return seen["extra_content"].detach(), seen["attention_mask"]


@pytest.mark.parametrize("changes", [{}, {"box_refinement": True}])
def test_a_step_is_the_formula_in_loops(monkeypatch, changes):
    made, data = method(**changes), batch()
    with torch.no_grad():
        out = made.predict(data)
    assert made.losses(data)[0].keys() == W.keys()
    out = {name: value.double() for name, value in out.items()}
    data.boxes = [wanted.double() for wanted in data.boxes]
    made.student.projector.double()
    monkeypatch.setattr(made, "predict", lambda _: out)
    with torch.no_grad():
        features = made.student.projector["feature"](out["queries"])
        terms, _ = made.losses(data)
    drawn = [boxes.tolist() for boxes in data.boxes]
    wanted = out["patches"].unflatten(0, (2, PATCHES)).tolist()
    truth = oracles.updetr_oracle(out["logits"].tolist(), out["boxes"].tolist(), features.tolist(), drawn, wanted, W)
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize(("queries", "patches"), [(6, 3), (6, 2), (40, 10), (100, 10), (300, 10), (30, 30), (9, 1)])
def test_a_query_sees_its_own_group_whatever_the_counts(queries, patches):
    """The public code loops over the patches as often as a patch has queries: with 4, 6 groups of 10 see nothing."""
    mask = updetr.group_attention_mask(queries, patches)
    each = queries // patches
    for one in range(queries):
        group = [other for other in range(queries) if one // each == other // each]
        assert len(group) == each
        assert (~mask[one]).nonzero().flatten().tolist() == group


@pytest.mark.parametrize("patches", [2, 3, 6])
def test_groups_do_not_know_of_each_other(patches):
    made, data = method(patches=patches), batch(patches=patches)
    detector, each = made.student.detector, 6 // patches
    with torch.no_grad():
        features = detector.features(data.views[0], data.mask)
        extra = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(3))
        mask = updetr.group_attention_mask(6, patches)
        before = detector.decode(features, data.mask, extra_content=extra, attention_mask=mask)
        extra[:, :each] += 1
        after = detector.decode(features, data.mask, extra_content=extra, attention_mask=mask)
        free = detector.decode(features, data.mask, extra_content=extra)
    assert torch.isfinite(after["boxes"]).all()
    assert torch.equal(before["queries"][:, :, each:], after["queries"][:, :, each:])
    assert ((before["queries"] - after["queries"])[:, :, :each].abs().amax(-1) > 1e-3).all()
    assert not torch.allclose(free["queries"][:, :, each:], after["queries"][:, :, each:], atol=1e-3)


def test_every_group_is_told_its_patch(monkeypatch):
    made, data = method(patches=2), batch(patches=2)
    given = _patches.pooled(made.student.detector, data.views[0], data.mask, data.boxes, 32)[-1]
    extra, mask = told(made, data, monkeypatch)
    assert torch.equal(mask, updetr.group_attention_mask(6, 2))
    linear = made.student.projector["patch"]
    for image in range(2):
        for query in range(6):
            patch = given[2 * image + query // 3]
            slow = [((row * patch).sum() + bias).item() for row, bias in zip(linear.weight, linear.bias, strict=True)]
            assert extra[image, query].tolist() == pytest.approx(slow, abs=1e-5)


def test_some_queries_are_not_told_in_training_alone(monkeypatch):
    made, data = method(mask_ratio=0.4), batch(images=30)
    full, _ = told(made, data, monkeypatch)
    assert (full.abs().sum(-1) > 0).all()
    made.student.train()
    shares, patterns = [], set()
    for seed in range(4):
        torch.manual_seed(seed)
        some, _ = told(made, data, monkeypatch)
        kept = some.abs().sum(-1) > 0
        assert torch.allclose(some[kept], full[kept])
        shares.append(kept.float().mean().item())
        patterns.add(tuple(kept.flatten().tolist()))
    assert len(patterns) == 4
    assert sum(shares) / 4 == pytest.approx(0.6, abs=0.06)
    pairs = kept.unflatten(1, (PATCHES, 2))
    assert (pairs[..., 0] != pairs[..., 1]).any()  # query by query, as the public code, not patch by patch


def test_the_backbone_and_the_crops_decide_what_is_told_and_wanted(monkeypatch):
    made, data = method(), batch()
    before, _ = made.losses(data)
    pooled = _patches.pooled

    def of_wrong_crops(detector, view, mask, boxes, side):
        return pooled(detector, view, mask, [wanted.flip(0) for wanted in boxes], side)

    scale = torch.linspace(0.5, 2, 24)
    for wrong in (of_wrong_crops, lambda *a: [*pooled(*a)[:-1], pooled(*a)[-1] * scale]):
        monkeypatch.setattr(_patches, "pooled", wrong)
        changed, _ = made.losses(data)
        assert all(changed[name] != before[name] for name in W)
        monkeypatch.undo()


def test_all_learns_but_the_backbone():
    made = method(mask_ratio=0.1)
    made.student.train()
    sum(made.losses(batch())[0].values()).backward()
    learns = {name for name, p in made.student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert learns == {n for n, _ in made.student.named_parameters() if not n.startswith("detector.backbone.")}


def test_parts_add_up_to_the_batch():
    data = batch(images=3)
    truth = method().losses(data)
    parts = method(micro_batch=2)
    found = [parts.losses(part) for part in parts.parts(data)]
    assert len(found) == 2
    for name in (*W, "matched_iou"):
        ours = sum((terms | figures)[name].item() for terms, figures in found)
        assert ours == pytest.approx((truth[0] | truth[1])[name].item(), rel=1e-5), name


def test_what_leaves_is_a_whole_detector(tmp_path):
    made = method(box_refinement=True)
    checkpoint.save(tmp_path / "pretrained.safetensors", made.state_dicts(), {})
    model = tiny.detector(seed=3, num_classes=7, box_refinement=True)
    load_start(model, tmp_path / "pretrained.safetensors", "teacher")
    loaded, ours = model.state_dict(), made.student.detector.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in loaded.items() if "class_embed" not in key)


@pytest.mark.parametrize("patches", [0, 4])
def test_queries_must_be_shared_out_equally(patches):
    with pytest.raises(InputError, match=f"method.patches is {patches}; it must divide detector.queries, 6"):
        method(patches=patches)


def test_a_step_in_bfloat16_is_close():
    made, data = method(), batch()
    truth, _ = made.losses(data)
    with torch.autocast("cpu", torch.bfloat16):
        terms, _ = made.losses(data)
    assert all(value.dtype == torch.float32 for value in terms.values())
    for name, value in terms.items():
        assert value.item() == pytest.approx(truth[name].item(), rel=0.05) and value != truth[name]


def test_its_options_reach_the_views():
    weak = {"short_edges": [60]}
    made = updetr.build(tiny.detector(num_classes=None), weak=weak, patches=2, min_side=5)
    assert (made.transform.weak, made.transform.patches, made.transform.min_side) == (weak, 2, 5)

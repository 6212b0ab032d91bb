"""Deformable DETR: the public names, padding, refinement, two stages, boxes in pixels."""

from pathlib import Path

import pytest
import torch
from torch import nn

from proseco.base.errors import InputError
from proseco.detectors import deformable_detr
from proseco.nn.backbone import Body
from proseco.nn.deformable_transformer import add_reference
from tests import params_file, tiny

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = [{}, {"box_refinement": True}, {"box_refinement": True, "two_stage": True}]
VARIANTS += [{"levels": 1}, {"levels": 4}, {"levels": 5, "num_classes": None}]


def linear(name, outputs, inputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def deformable(name, width, levels, heads, points):
    return {
        **linear(f"{name}.sampling_offsets", heads * levels * points * 2, width),
        **linear(f"{name}.attention_weights", heads * levels * points, width),
        **linear(f"{name}.value_proj", width, width),
        **linear(f"{name}.output_proj", width, width),
    }


def layer(name, width, ffn, norms):
    names = linear(f"{name}.linear1", ffn, width) | linear(f"{name}.linear2", width, ffn)
    for number in range(norms):
        names |= norm(f"{name}.norm{number + 1}", width)
    return names


def public_layout(o):
    """Names and shapes of all but the backbone in the public checkpoints, written down from their key lists."""
    width, kernel = o["width"], (o["width"], o["levels"], o["heads"], o["points"])
    refine, two_stage = o.get("box_refinement", False), o.get("two_stage", False)
    names = {"transformer.level_embed": (o["levels"], width)}
    for i in range(o["encoder_layers"]):
        at = f"transformer.encoder.layers.{i}"
        names |= deformable(f"{at}.self_attn", *kernel) | layer(at, width, o["ffn"], 2)
    for i in range(o["decoder_layers"]):
        at = f"transformer.decoder.layers.{i}"
        names |= deformable(f"{at}.cross_attn", *kernel) | layer(at, width, o["ffn"], 3)
        names |= {f"{at}.self_attn.in_proj_weight": (3 * width, width), f"{at}.self_attn.in_proj_bias": (3 * width,)}
        names |= linear(f"{at}.self_attn.out_proj", width, width)
    if two_stage:
        names |= linear("transformer.enc_output", width, width) | norm("transformer.enc_output_norm", width)
        names |= linear("transformer.pos_trans", 2 * width, 2 * width) | norm("transformer.pos_trans_norm", 2 * width)
    else:
        names |= linear("transformer.reference_points", 2, width) | {"query_embed.weight": (o["queries"], 2 * width)}
    expansion = {"basic": 1, "bottleneck": 4}[o["backbone"]["block"]]
    channels = [w * expansion for w in o["backbone"]["widths"]]
    for i in range(o["levels"]):
        if i < 3:
            source, side = channels[1 + i] if o["levels"] > 1 else channels[-1], 1
        else:
            source, side = channels[-1] if i == 3 else width, 3
        names |= {f"input_proj.{i}.0.weight": (width, source, side, side), f"input_proj.{i}.0.bias": (width,)}
        names |= norm(f"input_proj.{i}.1", width)
    where = ["", "transformer.decoder."] if refine else [""]
    for at in where:
        for i in range(o["decoder_layers"] + two_stage):
            sizes = [width, width, width, 4]
            for j in range(3):
                names |= linear(f"{at}bbox_embed.{i}.layers.{j}", sizes[j + 1], sizes[j])
            if o["num_classes"] and (not at or two_stage):
                names |= linear(f"{at}class_embed.{i}", o["num_classes"], width)
    return names


def shapes(module):
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_layout_is_the_public_one(changes):
    options = tiny.SIZES | changes
    body = {f"backbone.0.{name}": shape for name, shape in shapes(Body(**options["backbone"])).items()}
    assert "backbone.0.body.layer2.0.downsample.1.running_var" in body
    assert shapes(deformable_detr.build(**options)) == public_layout(options) | body


def test_the_papers_detector_has_the_public_sizes():
    entry = params_file.parameters()["scales"]["paper"]["detector"]
    options = {key: value for key, value in entry.items() if key != "name"} | {"num_classes": 91}
    with torch.device("meta"):
        model = deformable_detr.build(**options)
    ours = shapes(model)
    known = {
        "transformer.encoder.layers.5.self_attn.sampling_offsets.weight": (256, 256),
        "transformer.decoder.layers.5.cross_attn.attention_weights.weight": (128, 256),
        "transformer.decoder.layers.0.linear1.weight": (1024, 256),
        "transformer.decoder.layers.3.self_attn.in_proj_weight": (768, 256),
        "transformer.level_embed": (4, 256),
        "query_embed.weight": (300, 512),
        "input_proj.0.0.weight": (256, 512, 1, 1),
        "input_proj.3.0.weight": (256, 2048, 3, 3),
        "class_embed.5.weight": (91, 256),
        "bbox_embed.5.layers.2.weight": (4, 256),
        "backbone.0.body.layer4.2.conv3.weight": (2048, 512, 1, 1),
        "backbone.0.body.bn1.running_mean": (64,),
    }
    assert {name: ours.get(name) for name in known} == known
    assert {n: s for n, s in ours.items() if not n.startswith("backbone.")} == public_layout(options)


def test_heads_are_shared_unless_boxes_are_refined():
    plain, refined = tiny.detector(), tiny.detector(box_refinement=True)
    assert plain.bbox_embed[0] is plain.bbox_embed[1]
    assert plain.class_embed[0] is plain.class_embed[1]
    assert refined.bbox_embed[0] is not refined.bbox_embed[1]
    assert refined.transformer.decoder.bbox_embed is refined.bbox_embed
    assert plain.transformer.decoder.bbox_embed is None


def test_the_projections_of_the_maps_begin_as_in_the_public_code():
    model = deformable_detr.build(**tiny.SIZES | {"levels": 4})
    for (convolution, _), fan_in in zip(model.input_proj, [12, 16, 24, 24 * 9], strict=True):
        bound = (6 / (fan_in + convolution.weight[0, 0].numel() * 32)) ** 0.5  # Xavier's
        assert 0.9 * bound < convolution.weight.abs().max() <= bound and (convolution.bias == 0).all()


def test_the_first_stage_learns_nothing_from_the_second(monkeypatch):
    model, batch, seen = tiny.detector(box_refinement=True, two_stage=True), tiny.batch(), []
    decode = model.transformer.decode
    monkeypatch.setattr(
        model.transformer, "decode", lambda *given, **more: seen.append(given[5]) or decode(*given, **more)
    )
    out = model(batch.views[0], batch.mask)
    assert out["encoder"]["boxes"].requires_grad and not seen[0].requires_grad


def test_options_reach_the_layers_and_the_loss():
    model = tiny.detector(dropout=0.3, class_weight=1.0, coord_weight=2.0, giou_weight=3.0)
    assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {0.3}
    assert model.weights == {"class": 1.0, "coord": 2.0, "giou": 3.0}


def test_training_begins_with_small_boxes_and_few_objects():
    torch.manual_seed(0)
    model = deformable_detr.build(**tiny.SIZES)
    batch = tiny.batch(views=1)
    out = model(batch.views[0], batch.mask)
    assert torch.allclose(out["boxes"][..., 2:], torch.tensor(-2.0).sigmoid().expand_as(out["boxes"][..., 2:]))
    assert torch.allclose(model.class_embed[0].bias.sigmoid(), torch.tensor(0.01))


@pytest.mark.parametrize("changes", VARIANTS)
def test_it_runs_and_every_weight_learns(changes):
    model = tiny.detector(**changes).train()
    batch = tiny.batch(views=1)
    out = model(batch.views[0], batch.mask)
    assert out["queries"].shape == (2, 3, 6, 32)
    assert out["boxes"].shape == (2, 3, 6, 4)
    assert out["boxes"].dtype == torch.float32
    assert 0 <= out["boxes"].min() <= out["boxes"].max() <= 1
    assert ("logits" in out) == (model.num_classes is not None)
    assert ("encoder" in out) == changes.get("two_stage", False)
    if model.num_classes is None:
        terms = {"sum": out["queries"].square().sum() + out["boxes"].sum()}
    else:
        assert out["logits"].shape == (2, 3, 6, 5)
        terms = model.losses(batch.views[0], batch.mask, batch.targets())
        assert list(terms) == ["class", "coord", "giou"]
    total = sum(terms.values())
    assert total.isfinite()
    total.backward()
    still = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()}
    assert not still
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("changes", VARIANTS[:3])
def test_each_layer_has_its_head_and_its_reference(changes):
    model, batch = tiny.detector(**changes), tiny.batch(views=1)
    decode, made = model.transformer.decode, []
    model.transformer.decode = lambda *given, **more: made.append(decode(*given, **more)) or made[0]
    out = model(batch.views[0], batch.mask)
    ((queries, references),) = made
    assert torch.equal(out["queries"], queries)
    for layer in range(2):
        assert torch.equal(out["logits"][layer], model.class_embed[layer](queries[layer]))
        boxes = add_reference(model.bbox_embed[layer](queries[layer]), references[layer])
        assert torch.equal(out["boxes"][layer], boxes)
    if not changes:
        assert torch.equal(references[0], references[1])
        return
    assert torch.allclose(references[1], out["boxes"][0])  # what the first layer found
    if "encoder" in out:  # the queries begin at its surest boxes
        best = out["encoder"]["logits"][..., 0].topk(6, dim=1).indices
        for image in range(3):
            assert torch.allclose(references[0][image], out["encoder"]["boxes"][image, best[image]])


@pytest.mark.parametrize("changes", VARIANTS[:3])
def test_boxes_and_scores_are_not_rounded_to_bfloat16(changes):
    """Of the same queries, they are those of float32, to the bit; the queries are not."""
    model, batch = tiny.detector(**changes), tiny.batch(views=1)
    decode, made, made_of = model.transformer.decode, [], []
    model.transformer.decode = lambda *given, **more: made.append(decode(*given, **more)) or made[-1]
    first = model.transformer.encoder_proposals if changes.get("two_stage") else None

    def spy(*given):
        memory, logits = first(*given)
        made_of.append(memory)
        return memory, logits

    model.transformer.encoder_proposals = spy
    exact = model(batch.views[0], batch.mask)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(batch.views[0], batch.mask)
    queries, references = made[1]
    assert not torch.allclose(out["queries"].float(), exact["queries"], atol=1e-4)
    assert {out["boxes"].dtype, out["logits"].dtype} == {torch.float32}
    for layer in range(2):
        boxes = add_reference(model.bbox_embed[layer](queries[layer].float()), references[layer])
        assert torch.equal(out["boxes"][layer], boxes)
        assert torch.equal(out["logits"][layer], model.class_embed[layer](queries[layer].float()))
    if changes.get("box_refinement"):
        assert torch.equal(references[1], out["boxes"][0])
    if "encoder" in out:
        memory = made_of[-1]
        assert torch.equal(out["encoder"]["logits"], model.class_embed[-1](memory.float()))
        assert out["encoder"]["boxes"].dtype == torch.float32


def test_padding_cannot_be_seen():
    batch = tiny.batch(views=1)
    model = tiny.detector(levels=4, box_refinement=True)
    images = batch.views[0]
    noise = torch.randint(0, 256, images.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    dirty = torch.where(batch.mask[:, None], noise, images)
    assert not torch.equal(dirty, images)
    clean, other = model(images, batch.mask), model(dirty, batch.mask)
    assert torch.equal(clean["boxes"], other["boxes"])
    assert torch.equal(clean["logits"], other["logits"])
    blind = model(dirty, torch.zeros_like(batch.mask))
    assert not torch.allclose(clean["boxes"], blind["boxes"], atol=1e-3)


@pytest.mark.parametrize("changes", [{}, {"box_refinement": True}, {"box_refinement": True, "two_stage": True}])
def test_padding_does_not_move_the_boxes(changes):
    """From features on, where GroupNorm, which sees the whole map as in the public code, is taken out."""
    model = tiny.detector(**changes)
    for project in model.input_proj:
        project[1] = nn.Identity()
    draws = torch.Generator().manual_seed(0)
    inner, outer = (64, 96), (128, 160)
    kinds = [(12, 8), (16, 16), (24, 32)]  # channels and stride of each level
    features = [torch.randn(1, c, inner[0] // s, inner[1] // s, generator=draws) for c, s in kinds]
    padded = [torch.randn(2, c, outer[0] // s, outer[1] // s, generator=draws) for c, s in kinds]
    for feature, canvas in zip(features, padded, strict=True):
        canvas[0, :, : feature.shape[2], : feature.shape[3]] = feature[0]
    mask = torch.zeros(2, *outer, dtype=torch.bool)
    mask[0, inner[0] :] = mask[0, :, inner[1] :] = True
    alone = model.decode(features, torch.zeros(1, *inner, dtype=torch.bool))
    together = model.decode(padded, mask)
    assert torch.allclose(alone["boxes"][:, 0], together["boxes"][:, 0], atol=1e-4)
    assert torch.allclose(alone["logits"][:, 0], together["logits"][:, 0], atol=1e-4)
    assert not torch.allclose(alone["boxes"][:, 0], together["boxes"][:, 1], atol=1e-3)


def test_an_image_does_not_see_the_others():
    batch = tiny.batch(views=1)
    model = tiny.detector(levels=4)
    together = model(batch.views[0], batch.mask)
    alone = model(batch.views[0][1:2], batch.mask[1:2])
    assert torch.allclose(alone["boxes"][:, 0], together["boxes"][:, 1], atol=1e-5)


def test_pretraining_and_detection_agree():
    model, batch = tiny.detector(), tiny.batch(views=1)
    whole = model(batch.views[0], batch.mask)
    parts = model.decode(model.features(batch.views[0], batch.mask), batch.mask)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    headless = tiny.detector(num_classes=None)
    assert set(headless(batch.views[0], batch.mask)) == {"queries", "boxes"}


def test_detections_are_pixels_of_width_and_height():
    model = tiny.detector()
    draws = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 6, 5, generator=draws)
    boxes = torch.rand(2, 2, 6, 4, generator=draws)
    model.forward = lambda images, mask: {"logits": logits, "boxes": boxes}
    sizes = torch.tensor([[640, 480], [100, 300]])
    found = model.detect(None, None, sizes, limit=8)
    assert [len(one["scores"]) for one in found] == [8, 8]
    for image, one in enumerate(found):
        table = [(logits[-1, image, q, c].sigmoid().item(), q, c) for q in range(6) for c in range(5)]
        best = sorted(table, reverse=True)[:8]
        assert one["scores"].tolist() == pytest.approx([score for score, _, _ in best])
        assert one["labels"].tolist() == [c for _, _, c in best]
        width, height = sizes[image].tolist()
        for row, (_, q, _) in zip(one["boxes_xyxy"], best, strict=True):
            x, y, w, h = boxes[-1, image, q].tolist()
            truth = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
            assert row.tolist() == pytest.approx(truth, rel=1e-4, abs=1e-3)
    assert len(model.detect(None, None, sizes)[0]["scores"]) == 30  # no more than there are


def test_detection_takes_no_gradient():
    batch = tiny.batch(views=1)
    found = tiny.detector().detect(batch.views[0], batch.mask, batch.sizes, limit=4)
    assert len(found) == 3
    assert not found[0]["boxes_xyxy"].requires_grad
    assert {key: tuple(value.shape) for key, value in found[0].items()} == {
        "boxes_xyxy": (4, 4),
        "scores": (4,),
        "labels": (4,),
    }


def test_a_detector_that_cannot_be_is_refused():
    for changes in ({"levels": 0}, {"width": 48}, {"heads": 5}):
        ((name, value),) = changes.items()
        with pytest.raises(InputError, match=f"{name}={value}"):
            deformable_detr.build(**tiny.SIZES | changes)
    for changes in ({"box_refinement": False}, {"box_refinement": True, "num_classes": None}):
        with pytest.raises(InputError, match="two_stage needs box_refinement"):
            deformable_detr.build(**tiny.SIZES | changes | {"two_stage": True})


@pytest.mark.parametrize("refine", [False, True])
def test_a_class_head_can_be_given_later(refine):
    torch.manual_seed(0)
    whole = deformable_detr.build(**(tiny.SIZES | {"box_refinement": refine}))
    torch.manual_seed(0)
    model = deformable_detr.build(**(tiny.SIZES | {"box_refinement": refine, "num_classes": None}))
    model.add_class_head(5)
    state = whole.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert len(set(model.class_embed)) == (2 if refine else 1)


def test_what_is_added_is_added_to_the_content_of_the_queries():
    model, data = tiny.detector(), tiny.batch()
    extra = torch.randn(6, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = model.features(data.views[0], data.mask)
        given = model.decode(features, data.mask, extra_content=extra.expand(3, -1, -1))
        nobody = torch.zeros(6, 6, dtype=torch.bool)
        plain = model.decode(features, data.mask, attention_mask=nobody)
        assert all(torch.allclose(v, plain[k], atol=1e-5) for k, v in model.decode(features, data.mask).items())
        model.query_embed.weight[:, 32:] += extra
        truth = model.decode(features, data.mask)
    assert all(torch.equal(value, given[name]) for name, value in truth.items())
    assert not torch.allclose(plain["boxes"], truth["boxes"], atol=1e-3)

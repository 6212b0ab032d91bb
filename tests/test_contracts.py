"""Every plug-in keeps the contract of its folder. A new file is tested because it exists.

Small values for the arguments of plug-ins are found by the arguments' names, in SMALL.
"""

import inspect
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import FrozenBatchNorm2d

from proseco.base import plugins
from proseco.base.errors import InputError
from proseco.data import annotations
from proseco.data.batch import collate
from proseco.data.sample import Sample
from proseco.data.sources import AnnotatedImages
from proseco.demo import data_sets
from proseco.experiment import selection
from proseco.nn.backbone import ResNet, freeze
from proseco.training.loop import is_backbone
from tests import params_file

ROOT = Path(__file__).resolve().parents[1]
BODY = {"block": "basic", "layers": [1, 1, 1, 1], "stem": 8, "widths": [8, 8, 16, 24]}
SMALL = {
    **{"backbone": BODY, "width": 32, "heads": 4, "encoder_layers": 1, "decoder_layers": 2, "ffn": 48, "dropout": 0.0},
    **{"levels": 3, "points": 2, "queries": 9, "box_refinement": True},
    **{"channels": 64, "layers": 1, "box_width": 24, "mask_width": 8, "mask_layers": 1, "score_threshold": 0.0},
    **{"rpn_before_nms": (50, 40), "rpn_after_nms": (30, 20), "rpn_sampled": 16, "box_sampled": 8},
    **{"boxes": 5, "projector": [40, 12], "ema_rate": 0.5, "side": 32, "count": 20, "patches": 3},
    "weak": {"short_edges": [32, 40], "long_edge": 64, "first_short_edges": [40], "crop_min": 24, "crop_max": 40},
    "strong": {"blur_sigma": [0.1, 0.5]},
    **{"small_side": 32, "small_crops": 1, "photometric": {}, "hidden": 20, "prototypes": 6, "frozen_steps": 0},
    **{"first": {"solarise_probability": 0.5}, "second": {}, "min_size": 8, "max_iou": 0.5, "area": [0.3, 1.0]},
    "filter": {"min_side": 8, "aspect": None, "size": None, "limit": None},
    **{"jitter": 0.1, "jitter_probability": 0.5, "canonical_size": 14, "scratch": True},
}
#: The detectors of methods that are not for Deformable DETR.
DETECTORS = {"soco": "mask_rcnn"}
IMAGES, CLASSES, QUERIES = 3, 4, SMALL["queries"]


def every(kind):
    return pytest.mark.parametrize("name", plugins.names(kind))


def small(kind, name, **given):
    """What builds a plug-in small: the values of SMALL that it knows."""
    known = plugins.keywords(kind, name)
    missing = {key for key, must in known.items() if must} - set(SMALL) - set(given)
    assert not missing, f"give {', '.join(missing)} a small value in SMALL"
    return {"name": name, **{key: SMALL[key] for key in known if key in SMALL and key not in given}}


def detector(name, num_classes):
    torch.manual_seed(0)
    return plugins.call("detectors", small("detectors", name, num_classes=0), num_classes=num_classes)


def samples():
    """Images of unequal sizes; the second has no box."""
    found = []
    for number, (height, width, count) in enumerate([(48, 64, 12), (60, 40, 0), (44, 44, 7)]):
        rng = np.random.default_rng(number)
        low = rng.uniform(0, [width - 16, height - 16], (count, 2))
        boxes = np.concatenate([low, low + rng.uniform(6, 16, (count, 2))], 1).astype(np.float32)
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        found.append(Sample(f"key{number}", image, boxes, rng.integers(0, CLASSES, count)))
    return found


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_file_says_what_it_is(kind):
    for name in plugins.names(kind):
        function = plugins.load(kind, name)
        module = inspect.getmodule(function)
        assert module.__name__ == f"proseco.{kind}.{name}"
        assert inspect.getdoc(function), f"{kind}/{name}: no docstring"
        assert (module.__doc__ or "").strip(), f"{kind}/{name}: the file has no docstring"


@every("losses")
def test_losses(name):
    loss = plugins.load("losses", name)
    rng = torch.Generator().manual_seed(0)
    batch, proposals, width = 3, 5, 7
    z = torch.nn.functional.normalize(torch.randn(batch, proposals, width, generator=rng), dim=-1).requires_grad_()
    z_hat = torch.nn.functional.normalize(torch.randn(batch, proposals, width, generator=rng), dim=-1).requires_grad_()
    boxes = torch.rand(batch, proposals, 4, generator=rng) * 0.5 + 0.2
    boxes[1, 2, 2:] = 0  # no area
    boxes[0, 1] = boxes[0, 0]
    value = loss(z, z_hat, boxes)
    assert value.shape == () and value.isfinite()
    value.backward()
    assert z.grad is None  # the teacher is not trained
    assert z_hat.grad.isfinite().all() and (z_hat.grad.flatten(1).norm(dim=1) > 0).all()
    with torch.no_grad():
        parts = [loss(z, z_hat, boxes, anchors=slice(0, 1)), loss(z, z_hat, boxes, anchors=slice(1, 3))]
        assert value.item() == pytest.approx((parts[0].item() + 2 * parts[1].item()) / 3, rel=1e-5)
        assert loss(z.bfloat16(), z_hat.bfloat16(), boxes).dtype == torch.float32
        assert loss(z, z, boxes) < loss(z, z.flip(1), boxes)  # the right order of proposals is better


@every("proposals")
@pytest.mark.parametrize("size", [(48, 64), (50, 31)])
def test_proposals(name, size, tmp_path):
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 4, columns * 3, 255 * (rows > columns)], -1).clip(0, 255).astype(np.uint8)
    before = image.copy()
    np.save(tmp_path / "image.npy", [[3, 4, 20, 30]])  # where the plug-in reads boxes from files
    known = plugins.keywords("proposals", name)
    given = {k: v for k, v in {"seed": 11, "path": "image.jpg", "root": str(tmp_path)}.items() if k in known}
    entry = small("proposals", name, **given)
    first, again = (plugins.call("proposals", entry, image, **given) for _ in range(2))
    assert first.dtype == np.float32 and first.shape == (len(first), 4) and len(first)
    assert (first == again).all() and (image == before).all()
    assert (first[:, :2] >= 0).all() and (first[:, 2:] <= [width, height]).all()
    assert (first[:, 2:] > first[:, :2]).all()


@every("detectors")
def test_detectors(name):
    model = detector(name, CLASSES)
    images = torch.randint(0, 256, (IMAGES, 3, 64, 96), dtype=torch.uint8)
    mask = torch.zeros(IMAGES, 64, 96, dtype=torch.bool)
    mask[1, 48:] = True
    mask[2, :, 64:] = True
    if hasattr(model, "decode"):  # a detector with queries
        features = model.features(images, mask)
        assert all(level.shape[0] == IMAGES and level.dim() == 4 for level in features)
        out = model.decode(features, mask)
        layers, *shape = out["queries"].shape
        assert shape[:2] == [IMAGES, QUERIES] and out["boxes"].shape == (layers, IMAGES, QUERIES, 4)
        assert out["logits"].shape == (layers, IMAGES, QUERIES, CLASSES)
        assert out["boxes"].dtype == torch.float32 and out["boxes"].min() >= 0 and out["boxes"].max() <= 1

    boxes = [torch.tensor([[0.5, 0.4, 0.2, 0.3], [0.2, 0.2, 0.1, 0.1]]), torch.zeros(0, 4), torch.full((1, 4), 0.4)]
    labels = [torch.tensor([0, 3]), torch.zeros(0, dtype=torch.long), torch.tensor([1])]
    targets = [{"boxes": b, "labels": c} for b, c in zip(boxes, labels, strict=True)]
    if model.learns_masks:
        for target, inside in zip(targets, ~mask, strict=True):
            height, width = int(inside.any(1).sum()), int(inside.any(0).sum())
            target["masks"] = torch.randint(0, 2, (len(target["labels"]), height, width), dtype=torch.uint8)
    terms = model.losses(images, mask, targets)
    assert terms and all(value.shape == () and value.isfinite() for value in terms.values())
    assert all(value.dtype == torch.float32 for value in terms.values())
    sum(terms.values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, f"no gradient: {without}"

    sizes = torch.tensor([[960, 640], [480, 240], [1000, 1500]])
    model.eval()
    found = model.detect(images, mask, sizes, limit=7)
    assert len(found) == IMAGES
    for one, (width, height) in zip(found, sizes.tolist(), strict=True):
        count = len(one["scores"])
        assert count == 7 if hasattr(model, "decode") else count <= 7  # others leave out what scores low
        assert one["boxes_xyxy"].shape == (count, 4) and one["scores"].shape == one["labels"].shape == (count,)
        assert ((one["scores"] >= 0) & (one["scores"] <= 1)).all() and (one["scores"].diff() <= 0).all()
        assert ((one["labels"] >= 0) & (one["labels"] < CLASSES)).all()
        centre = (one["boxes_xyxy"][:, :2] + one["boxes_xyxy"][:, 2:]) / 2
        assert (centre >= 0).all() and (centre <= torch.tensor([width, height])).all()
    one_by_one = model.detect(images[:1], mask[:1], sizes[:1], limit=7)[0]
    assert torch.allclose(one_by_one["boxes_xyxy"], found[0]["boxes_xyxy"], atol=0.05)


@every("detectors")
def test_detectors_without_a_class_head(name):
    model = detector(name, None)
    if hasattr(model, "decode"):
        images, mask = torch.zeros(2, 3, 64, 80, dtype=torch.uint8), torch.zeros(2, 64, 80, dtype=torch.bool)
        assert "logits" not in model.decode(model.features(images, mask), mask)
    whole = detector(name, CLASSES).state_dict()
    assert set(model.state_dict()) == {key for key in whole if not key.startswith(model.head_prefixes)} < set(whole)
    body = {key.removeprefix(model.body_prefix) for key in whole if key.startswith(model.body_prefix)}
    assert body == {
        key for key in ResNet(**BODY, num_classes=1, norm=FrozenBatchNorm2d).state_dict() if key[:3] != "fc."
    }


@every("detectors")
def test_stages_of_detectors_can_stay_as_they_are(name):
    """By the names of Deformable DETR's public code, which trains layer2, layer3 and layer4."""
    model = detector(name, CLASSES)
    trained = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    freeze(model, 0)
    assert trained == {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    freeze(model, 2)
    left = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    body = {key.removeprefix(model.body_prefix) for key in trained if key.startswith(model.body_prefix)}
    still = {key.removeprefix(model.body_prefix) for key in trained - left}
    assert still == {key for key in body if key.split(".")[0] not in ("layer2", "layer3", "layer4")} != set()
    freeze(model, 5)
    assert not any(p.requires_grad for key, p in model.named_parameters() if key.startswith(model.body_prefix))


def detector_of(method):
    return DETECTORS.get(method, "deformable_detr")


def build(name):
    """A method, what it trains, and its options."""
    known = plugins.keywords("methods", name)
    given = {key: SMALL[key] for key in ("weak", "strong") if key in known}
    if "loss" in known:
        given["loss"] = partial(plugins.load("losses", "locsce"), delta=0.3)
    if "steps" in known:
        given["steps"] = 10
    if name in plugins.methods_over("network"):
        torch.manual_seed(0)
        model = ResNet(**BODY, num_classes=CLASSES)
    else:
        classes = CLASSES if name == selection.NOT_PRETRAINED else None
        model = detector(detector_of(name), classes)
    return plugins.call("methods", small("methods", name, **given), model, **given)


@every("methods")
def test_methods(name):
    method = build(name)
    examples = [method.transform(sample, np.random.default_rng(i)) for i, sample in enumerate(samples())]
    if name in plugins.methods_over("network"):  # labels, if any, are of images
        examples = [e for e in examples if len(e.labels)] or examples
        for example in examples:
            example.labels = example.labels[:1]
    batch = collate(examples)
    assert method.parts(batch) == [batch]  # in one, unless micro_batch is given
    assert method.modules()["student"] is method.student
    method.student.train()
    optimizer = torch.optim.SGD([p for p in method.student.parameters() if p.requires_grad], lr=0.01)
    before = {key: value.clone() for key, value in method.student.state_dict().items()}
    for _ in range(2):
        terms, figures = method.losses(batch)
        assert terms and not set(terms) & set(figures)
        for key, value in (terms | figures).items():
            assert value.shape == () and value.isfinite(), key
        assert not any(value.requires_grad for value in figures.values())
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        assert method.after_step() is None
    after = method.student.state_dict()
    assert any((after[key] != before[key]).any() for key in before)


WEAK = [name for name in plugins.names("methods") if "weak" in plugins.keywords("methods", name)]


@pytest.mark.parametrize("name", WEAK)
def test_methods_on_the_weak_view_know_its_size_before_its_image(name):
    """``group_steps`` asks for it."""
    transform = build(name).transform
    for number, sample in enumerate(samples()):
        height, width = sample.image.shape[:2]
        for seed in range(number, 20, 3):
            view = transform(sample, np.random.default_rng(seed)).views[0]
            assert transform.frame(width, height, np.random.default_rng(seed)) == (view.shape[1], view.shape[0])


PRETRAINING = [name for name in plugins.methods_over("detector") if name != selection.NOT_PRETRAINED]


@pytest.mark.parametrize("name", PRETRAINING)
def test_methods_that_pretrain_give_two_detectors(name):
    method = build(name)
    backbone = {k: v.clone() for k, v in method.state_dicts()["student"].items() if k.startswith("backbone.")}
    batch = collate([method.transform(sample, np.random.default_rng(i)) for i, sample in enumerate(samples())])
    optimizer = torch.optim.SGD([p for p in method.student.parameters() if p.requires_grad], lr=0.1)
    terms, _ = method.losses(batch)
    torch.stack(list(terms.values())).sum().backward()
    optimizer.step()
    method.after_step()

    found = method.matched_predictions(batch) if "weak" in plugins.keywords("methods", name) else {}
    assert set(found) <= {"student", "teacher"}
    for predicted in found.values():
        assert [len(boxes) for boxes, _ in predicted] == [min(len(b), QUERIES) for b in batch.boxes]
        for (boxes, numbers), drawn in zip(predicted, batch.boxes, strict=True):
            assert boxes.shape == (len(numbers), 4) and set(numbers) <= set(range(len(drawn)))
            assert ((boxes >= 0) & (boxes <= 1)).all()

    weights = method.state_dicts()
    assert set(weights) == {"student", "teacher"}
    wanted = detector(detector_of(name), None).state_dict()
    for state in weights.values():
        assert {key: state[key].shape for key in wanted} == {key: value.shape for key, value in wanted.items()}
        extra = [key for key in state if key not in wanted]
        assert all(re.match(r"(projector|class_embed)\.", key) for key in extra)  # what finetuning leaves out
    student, teacher = weights["student"], weights["teacher"]
    differing = [key for key in wanted if not key.startswith("backbone.") and (student[key] != teacher[key]).any()]
    # After one step they differ: the teacher follows, it is not the student. Unless there is none.
    assert bool(differing) == ("teacher" in method.modules())
    trained = [key for key, p in method.student.named_parameters() if is_backbone(key) and p.requires_grad]
    fixed = all((student[key] == value).all() for key, value in backbone.items())
    assert fixed == (not trained)
    if name in ("proseco", "detreg", "updetr", "soco"):
        assert fixed == (name != "soco")  # Section 4.1; in SoCo it is trained


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "out"
    counts = {"scenes": 1, "objects": 12, "coco_train": 7, "coco_val": 6, "voc_trainval": 13, "voc_test": 6}
    data_sets.write(out, seed=1, side=48, object_side=32, fsod_train=6, fsod_test=7, workers=1, **counts)
    return out


#: Plug-ins for data of one's own, which params.yaml does not name: a folder of the demo that they read, and subsets.
OWN = {
    "coco_json": ("fsod", ["annotations/fsod_test.json", "annotations/fsod_train.json"]),
    "voc_xml": ("voc/VOC2007", ["trainval", "test"]),
}


def places(name):
    """Folder of the demo and subsets of a benchmark that params.yaml names."""
    if name in OWN:
        return OWN[name]
    entries = [e for e in params_file.parameters()["benchmarks"].values() if e["name"] == name]
    assert entries, f"params.yaml has no benchmark of plug-in {name}"
    return entries[0]["root"], sorted({entry[part] for entry in entries for part in ("train", "test")} - {None})


@every("benchmarks")
def test_benchmarks(name, data):
    load, (folder, subsets) = plugins.load("benchmarks", name), places(name)
    root = data / folder
    assert root.is_dir(), f"proseco.demo.data_sets writes no folder {folder!r} in the layout of benchmark {name}"
    for subset in subsets:
        found = load(root, subset)
        assert found == load(root, subset) and found == load(str(root), subset)
        assert set(found) == {"images", "annotations", "categories"}
        assert annotations.check(found, source=subset) == (found, [])  # nothing to mend
        annotations.check_images(found, root, source=subset)
        for part, fields in (
            ("images", {"id", "key", "file_name", "width", "height"}),
            ("annotations", {"id", "image_id", "category_id", "bbox", "area", "iscrowd", "difficult"}),
            ("categories", {"id", "name", "original_id"}),
        ):
            assert found[part] and all(set(record) == fields for record in found[part])
            assert [record["id"] for record in found[part]] == sorted(record["id"] for record in found[part])
        assert [record["id"] for record in found["categories"]] == list(range(len(found["categories"])))
        assert all(type(record["key"]) is str and "\\" not in record["file_name"] for record in found["images"])
        assert all(type(value) is float for record in found["annotations"] for value in record["bbox"])
        source = AnnotatedImages(found, root)  # refuses an image of another size than its record
        boxes = sum(len(source[number].boxes_xyxy) for number in range(len(source)))
        assert boxes == len([record for record in found["annotations"] if not record["iscrowd"]])
        assert any(len(source[number].boxes_xyxy) == 0 for number in range(len(source))), "images without objects stay"


@every("benchmarks")
def test_benchmarks_name_what_is_missing(name, data, tmp_path):
    load, (folder, subsets) = plugins.load("benchmarks", name), places(name)
    for root, subset in ((data / folder, "1066_battle"), (tmp_path, subsets[0])):
        with pytest.raises(InputError) as caught:
            load(root, subset)
        assert "\n" not in str(caught.value) and any(word in str(caught.value) for word in (subset, str(root)))

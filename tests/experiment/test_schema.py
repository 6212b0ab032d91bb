import copy
import re
import subprocess
import sys
from pathlib import Path

import pytest

from proseco.base.errors import InputError
from proseco.experiment import schema
from tests import params_file

ROOT = Path(__file__).resolve().parents[2]
REAL = params_file.parameters()
# Keys that may be missing, for their functions have defaults.
OPTIONAL = {
    *(
        "lr_backbone",
        "drop_at",
        "weight_decay",
        "linear_factor",
        "log_every",
        "clip",
        "patience",
        "group_steps",
        "pad_to",
    ),
    *("frozen_stages", "prefix"),
    *("delta", "tau", "tau_t", "lambda_sce", "relation_mask", "normalize_target"),
    *("lambda_contrast", "lambda_sim", "lambda_coord", "lambda_giou", "contrast_aux"),
    *("boxes", "ema_rate", "projector", "smoothing", "mode", "proposals.long_edge"),
    *("jitter_probability", "jitter", "grayscale_probability", "blur_probability", "blur_sigma"),
    *("width", "heads", "encoder_layers", "decoder_layers", "ffn", "dropout", "levels", "points", "queries"),
    *("box_refinement", "two_stage", "proseco.loss", "drop_other_sizes", "masks", "scoring"),
    *("scrl.side", "soco.method.side", "area", "min_size", "max_iou", "canonical_size", "scratch", "extra_side"),
    *("solarise_probability", "momentum", "trust", "warmup", "decay"),
    *("draw", "search", "stride", "method.side", "patches", "method.min_side", "mask_ratio"),
    *("lambda_class", "lambda_embed", "lambda_feature"),
    *("swav.side", "small_side", "small_crops", "hidden", "prototypes", "frozen_steps"),
}
# Names of entries that the selected rows and columns do not need. Those of all selections must be there.
NEEDED = {*REAL["run"]["methods"], *(entry["of"] for entry in REAL["ablations"].values())}
SELECTED = {name for lists in REAL["selections"].values() for name in lists["benchmarks"]}
UNUSED = (
    rf"benchmarks\.(?!({'|'.join(SELECTED)})$)\w+",
    rf"methods\.((?!({'|'.join(NEEDED)})$)\w+|\w+\.(data|detector))",
    r"scales\.demo\.pretrain\.(?!proseco$)\w+",
    r"ablations\.\w+",
    r"scales\.\w+\.pretrain\.\w+_(coco|swav)(\..*)?",  # laid over its plug-in's
    r"scales\.\w+\.pretrain\.\w+\.views(\..*)?",  # laid over the scale's
    r"ablations\.\w+\.set\..*",
    r"scales\.\w+\.ablations\..*",
    r"selections\.\w+",
    r"scales\.demo\.backbones\.(?!(supervised|proseco)$)\w+",
    r"scales\.\w+\.propose\.unlabelled\.(coco|random(\..*)?)",
    r"scales\.demo\.schedules\.\w+",  # there is a default
    r"scales\.demo\.roots\.fsod",
    r"scales\.\w+\.detectors\.\w+(\.(?!name).*)?",
    r"scales\.paper(\.(roots|schedules|pretrain|backbones)\.\w+)?",
)


def at(*path):
    """A deep copy of the real parameters, and the value at a path in it."""
    changed = copy.deepcopy(REAL)
    value = changed
    for key in path:
        value = value[key]
    return changed, value


def changed(path, value):
    *above, key = path.split("/")
    whole, section = at(*above)
    section[key] = value
    return whole


def mappings(value=REAL, path=()):
    """Paths of all mappings in the parameters."""
    if isinstance(value, dict):
        yield path
        for key, item in value.items():
            yield from mappings(item, (*path, key))


def values(value=REAL, path=()):
    """Paths of all keys in the parameters."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*path, key)
            yield from values(item, (*path, key))


def refusal(parameters):
    """The one line with which parameters are refused, or None."""
    try:
        schema.check(parameters)
    except InputError as error:
        assert "\n" not in str(error)
        return str(error)
    return None


@pytest.mark.parametrize("scale", REAL["scales"])
def test_the_real_parameters_are_right_at_every_scale(scale):
    assert refusal(REAL | {"scale": scale}) is None


def test_a_key_that_nothing_reads_is_refused_at_every_level():
    """Where keys are names (of methods, roots, ...) the new entry is refused for its value or for being of no use."""
    accepted = []
    for path in mappings():
        for value in (1, "zzz", {}):
            whole, section = at(*path)
            section["zzz"] = value
            if "zzz" not in (refusal(whole) or ""):
                accepted.append((".".join(path), value))
    assert accepted == []


def test_what_is_no_mapping_is_refused():
    accepted = []
    for path in mappings():
        for value in (3, "text", [1], None):
            if not path:
                continue
            whole, above = at(*path[:-1])
            above[path[-1]] = value
            if path[-1] not in (refusal(whole) or ""):
                accepted.append((".".join(path), value))
    search = "scales.paper.pretrain.detreg.method.search"  # null: the boxes that are stored
    assert accepted == [("scales.demo.generate", None), (search, None)]  # null: nothing to generate


def test_a_missing_key_is_named():
    wrong = []
    for path in values():
        dotted = ".".join(path)
        if any(re.fullmatch(pattern, dotted) for pattern in UNUSED):
            continue
        whole, above = at(*path[:-1])
        del above[path[-1]]
        message = refusal(whole)
        if any(dotted.endswith(f".{key}") for key in OPTIONAL):
            wrong += [dotted] if message is not None else []
        else:
            wrong += [dotted] if path[-1] not in (message or "") else []
    assert wrong == []


def test_odd_values_never_escape_as_another_error():
    """One row, one ablation, one benchmark and one scale stand for the others, which the same lines check."""
    wrong = []
    others = {"paper", "full", *REAL["benchmarks"], *REAL["methods"], *REAL["ablations"]}
    others -= {"mini_coco_5", "proseco", "supervised", "soco", "base", "scale"}
    for path in values():
        _, before = at(*path)
        for value in (None, -1, 0, True, "zzz", [], [-2], [[]], {}, {"name": []}, float("nan"), float("inf")):
            whole, above = at(*path[:-1])
            above[path[-1]] = value
            if others & set(path):
                break
            try:
                message = refusal(whole)
            except Exception as error:
                wrong.append((".".join(path), value, repr(error)))
            else:
                is_number, of_no_use = type(before) in (int, float), isinstance(value, dict | list)
                if is_number and (of_no_use or value in (-1, "zzz")) and path[-1] not in (message or ""):
                    wrong.append((".".join(path), value, message))
    assert wrong == []


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("scale", "dmeo", ["scale named 'dmeo'", "demo, paper", "params.yaml"]),
        ("device", "gpu", ["device named 'gpu'", "auto, cpu, cuda", "params.yaml"]),
        ("precision", "half", ["precision named 'half'", "auto, bfloat16, float32", "params.yaml"]),
        ("scales/demo/schedules/default/micro_batch", 0, ["schedules.default.micro_batch is 0"]),
        ("scales/demo/schedules/default/micro_pixels", 0, ["schedules.default.micro_pixels is 0"]),
        ("scales/demo/pretrain/soco/schedule/micro_pixels", 4, ["soco.schedule.micro_pixels is of no use"]),
        (
            "scales/demo/schedules/default",
            {"batch": 4, "lr": 0.1, "steps": 2, "micro_batch": 2, "micro_pixels": 9, "validations": 1},
            ["default has micro_batch and micro_pixels; either"],
        ),
        ("scales/demo/backbones/supervised/schedule/micro_batch", 4, ["supervised.schedule.micro_batch", "batch norm"]),
        ("scales/demo/schedules/default/group_steps", 0, ["schedules.default.group_steps is 0"]),
        ("scales/demo/schedules/default/pad_to", 0, ["schedules.default.pad_to is 0"]),
        ("scales/demo/backbones/supervised/schedule/group_steps", 4, ["supervised.schedule.group_steps", "one size"]),
        ("scales/demo/backbones/supervised/schedule/pad_to", 4, ["supervised.schedule.pad_to", "one size"]),
        ("scales/demo/pretrain/proseco/method/micro_batch", 4, ["proseco.method", "micro_batch"]),
        ("seed", -1, ["seed is -1"]),
        ("seed", 1.5, ["seed is 1.5", "int"]),
        ("run/methods", ["prosecco"], ["method named 'prosecco'", "proseco_swav", "run.methods"]),
        ("run/methods", [], ["run.methods is []", "at least one method"]),
        ("run/methods", ["proseco", "proseco"], ["run.methods names 'proseco' twice"]),
        ("run/unlabelled", ["coco"], ["run.unlabelled lacks main"]),
        ("run/unlabelled", ["main", "imagenet"], ["data set named 'imagenet'", "coco, main, random", "run.unlabelled"]),
        ("run/methods", ["proseco_coco"], ["methods.proseco_coco is pretrained on coco", "run.unlabelled lacks"]),
        ("run/ablations", ["bse"], ["ablation named 'bse'", "base, batch", "run.ablations"]),
        ("run/ablations", ["base"], ["run.ablation_benchmarks", "is []"]),
        ("selections/full/ablation_benchmarks", ["mini_voc_5"], ["selections.full.ablation_benchmarks", "mini_voc_5"]),
        ("selections/full/methods", ["x"], ["method named 'x'", "selections.full.methods"]),
        ("methods/swav/name", "swav", ["method over a detector named 'swav'", "proseco", "methods.swav.name"]),
        ("scales/demo/backbones/swav/name", "proseco", ["method over a network named 'proseco'", "scrl, swav"]),
        ("scales/demo/backbones/swav/protoypes", 9, ["key of method swav named 'protoypes'", "prototypes"]),
        ("scales/demo/backbones/swav/photometric", {"blr": 1}, ["'blr'", "blur_sigma", "backbones.swav.photometric"]),
        ("methods/proseco/detector", "mask", ["detector named 'mask'", "detectors define", "methods.proseco"]),
        ("methods/proseco/data", "cocoo", ["data set named 'cocoo'", "methods.proseco.data"]),
        ("ablations/base/of", "prosecco", ["method named 'prosecco'", "ablations.base.of"]),
        ("ablations/base/set", {"lss": {"tau": 1}}, ["key of ablations.base.set named 'lss'", "loss, pretrain"]),
        ("ablations/base/set", {"loss": {"tua": 0.1}}, ["key of loss named 'tua'"]),
        ("ablations/base/set", {"pretrain": {"method": {"bxes": 3}}}, ["'bxes'", "ablations.base at scale demo"]),
        ("ablations/base/set", {"backbone": "swva"}, ["backbone named 'swva'", "ablations.base"]),
        ("ablations/supervised_100/set", {"loss": {"tau": 0.2}}, ["supervised_100", "changes loss", "supervised"]),
        ("ablations/supervised_100/set", {"pretrain": {"pictures": 2}}, ["supervised_100", "changes pretrain, which"]),
        ("ablations/supervised_100/set", {"data": "coco"}, ["supervised_100", "changes data, which", "supervised is"]),
        ("ablations/base/set", {"pretrain": {"loss": {"tua": 1}}}, ["key of loss named 'tua'"]),
        ("ablations/base/set", {"pretrain": {"loss": 3}}, ["ablations.base.set.pretrain.loss is 3", "dict"]),
        (
            "ablations/base/set",
            {"pretrain": {"views": {"weak": {"fip": 1}}}},
            ["'fip'", "ablations.base at scale demo"],
        ),
        ("ablations/base/set", {"views": {"weka": {}}}, ["'weka'", "strong, weak", "ablations.base.set"]),
        ("scales/demo/ablations/every", {"title": "x"}, ["key of scales.demo.ablations.every named 'title'"]),
        ("scales/demo/ablations/queries_100", {"detector": {"queres": 3}}, ["'queres'", "queries_100 at scale demo"]),
        (
            "scales/demo/ablations/queries_100",
            {"detector": {"backbone": {"stem": 32}}},
            ["queries_100.detector.backbone cannot differ", "all rows of a scale share its form"],
        ),
        (
            "scales/demo/backbones/swav/schedule/lr_backbone",
            0.1,
            ["scales.demo.backbones.swav.schedule.lr_backbone: all of it is the backbone", "remove it"],
        ),
        (
            "run/methods",
            ["detreg_public"],
            ["methods.detreg_public.backbone is null", "scales.demo.pretrain.detreg_public needs a checkpoint"],
        ),
        ("run/benchmarks", ["coco_2x"], ["benchmark named 'coco_2x'", "coco_1x", "run.benchmarks"]),
        ("run/seeds", [42, 42], ["run.seeds is [42, 42]", "different"]),
        ("run/seeds", [True], ["run.seeds is [True]"]),
        ("loss/name", "locse", ["loss named 'locse'", "infonce, locnce, locsce, sce", "loss.name"]),
        ("loss/delta", 0, ["loss.delta is 0", "(0, 1]"]),
        ("loss/delta", 1.01, ["loss.delta is 1.01", "(0, 1]"]),
        ("loss/tau", 0.0, ["loss.tau is 0.0"]),
        ("loss/lambda_sce", 2, ["loss.lambda_sce is 2", "[0, 1]"]),
        ("loss/relation_mask", "sefl", ["relation mask named 'sefl'", "literal, self", "loss.relation_mask"]),
        ("loss/lambda_sim", "much", ["loss.lambda_sim is 'much'", "float"]),
        ("loss/boxes", 9, ["pretrain.proseco.method.boxes", "loss"]),
        ("loss/weak", 9, ["key of loss named 'weak'", "delta"]),
        ("methods/proseco/name", "prosecco", ["named 'prosecco'", "soco, supervised", "methods.proseco"]),
        ("methods/scrl/backbone", "srcl", ["backbone named 'srcl'", "scrl, supervised, swav", "methods.scrl"]),
        (
            "benchmarks/coco_1x/name",
            "cocoa",
            ["benchmark named 'cocoa'", "coco, coco_json, fsod", "benchmarks.coco_1x"],
        ),
        ("benchmarks/coco_1x/rule", "some", ["rule named 'some'", "all, cover, file, uniform", "benchmarks.coco_1x"]),
        ("benchmarks/coco_1x/rule", "uniform", ["benchmarks.coco_1x lacks fraction", "rule uniform"]),
        ("benchmarks/coco_1x/rule", "file", ["benchmarks.coco_1x lacks ids", "rule file"]),
        ("benchmarks/coco_1x/ids", "mine.txt", ["benchmarks.coco_1x.ids", "of no use", "rule all"]),
        ("benchmarks/mini_voc_5/rule", "file", ["benchmarks.mini_voc_5 lacks ids"]),
        ("benchmarks/fsod_test/drop_other_sizes", "yes", ["fsod_test.drop_other_sizes is 'yes'", "bool"]),
        ("benchmarks/coco_1x/root", "kokos", ["root named 'kokos'", "coco, fsod, imagenet", "benchmarks.coco_1x"]),
        ("benchmarks/coco_1x/root", 5, ["benchmarks.coco_1x.root is 5", "str"]),
        ("benchmarks/mini_voc_5/fraction", 5, ["benchmarks.mini_voc_5.fraction is 5", "(0, 1]"]),
        ("benchmarks/coco_1x/test", 2017, ["benchmarks.coco_1x.test is 2017", "str | None"]),
        ("benchmarks/co.co", {}, ["the name 'co.co'", "benchmarks"]),
        (
            "scales/demo/propose/proposals/name",
            "opencl",
            ["proposal named 'opencl'", "selective_search", "proposals/"],
        ),
        ("scales/demo/propose/unlabelled/main/root", "pictures", ["scales.demo", "pictures"]),
        (
            "scales/demo/propose/unlabelled/random/proposals/cuont",
            5,
            ["key of proposal random named 'cuont'", "count, min_side", "propose.unlabelled.random.proposals"],
        ),
        (
            "scales/demo/propose/unlabelled/random/filtre",
            {},
            ["key of scales.demo.propose.unlabelled.random", "filter"],
        ),
        (
            "scales/demo/propose/unlabelled/random/filter",
            {"size": [0.8, 0.3]},
            ["unlabelled.random.filter.size is [0.8, 0.3]", "[least, most]"],
        ),
        (
            "scales/demo/propose/unlabelled/random/filter",
            {"least": 3},
            ["key of scales.demo.propose.unlabelled.random.filter named 'least'", "min_side"],
        ),
        ("scales/demo/propose/proposals", {"name": "stored"}, ["propose.proposals lacks root", "proposals/stored.py"]),
        (
            "scales/demo/propose/proposals",
            {"name": "stored", "root": "sam"},
            ["scales.demo.propose.unlabelled.main needs scales.demo.roots.sam"],
        ),
        (
            "scales/demo/propose/proposals",
            {"name": "stored", "root": "sam", "path": "a"},
            ["key of proposal stored named 'path'"],
        ),
        (
            "scales/paper/pretrain/detreg/method/search/proposals",
            {"name": "stored", "root": "coco"},
            ["detreg.method.search.proposals lacks path"],
        ),
        ("scales/demo/propose/samples_per_shard", 0, ["scales.demo.propose.samples_per_shard is 0"]),
        ("scales/demo/propose/shard_bytes", 0, ["scales.demo.propose.shard_bytes is 0"]),
        ("scales/demo/propose/shard_bytes", "1G", ["scales.demo.propose.shard_bytes is '1G'", "int | None"]),
        ("scales/demo/propose/filter/aspect", [3, 0.3333], ["propose.filter.aspect is [3, 0.3333]", "[least, most]"]),
        ("scales/demo/propose/filter/size", 0.3, ["propose.filter.size is 0.3", "tuple[float, float] | None"]),
        ("scales/demo/propose/filter/limit", 0, ["propose.filter.limit is 0"]),
        ("scales/demo/propose/filter/side", 3, ["key of scales.demo.propose.filter named 'side'", "min_side"]),
        ("scales/demo/recall/images", 0, ["scales.demo.recall.images is 0"]),
        ("scales/demo/pretrain/proseco/pictures", 0, ["scales.demo.pretrain.proseco.pictures is 0"]),
        ("scales/demo/recall/image", 5, ["key of scales.demo.recall named 'image'", "images"]),
        ("scales/demo/roots/coco", None, ["benchmarks.mini_coco_5", "scales.demo.roots.coco", "not set"]),
        ("scales/demo/roots/scenes", None, ["scales.demo.propose", "scales.demo.roots.scenes", "not set"]),
        ("scales/demo/roots/imagenet", None, ["scales.demo.backbones.", "needs scales.demo.roots.imagenet"]),
        ("scales/demo/split/validation", "tset", ["scales.demo.split.validation is 'tset'", "or test"]),
        ("scales/demo/split/validation", 0, ["scales.demo.split.validation is 0"]),
        ("scales/demo/backbones/proseco/same_as", "proseco", ["backbone named 'proseco'", "supervised", "same_as"]),
        ("scales/demo/backbones/supervised/name", "classify", ["a network named 'classify'", "classification"]),
        ("scales/demo/detector/name", "detr", ["detector named 'detr'", "deformable_detr"]),
        ("scales/demo/detector/queries", "many", ["scales.demo.detector.queries is 'many'", "int"]),
        ("scales/demo/detector/backbone/layers", [1, "2"], ["scales.demo.detector.backbone.layers", "list[int]"]),
        (
            "scales/demo/detector/backbone/block",
            "bottle",
            ["ResNet block named 'bottle'", "basic, bottleneck", "block"],
        ),
        ("scales/demo/views/weak/crop_min", 129, ["scales.demo.views.weak.crop_min is 129", "crop_max, 128"]),
        ("scales/demo/views/strong/jitter", [0.4, 0.4, 0.4], ["views.strong.jitter", "tuple[float, float"]),
        ("scales/demo/finetune/init_from", "techer", ["network named 'techer'", "student, teacher", "init_from"]),
        ("scales/demo/schedules/default/validations", 0, ["schedules.default.validations is 0"]),
        (
            "scales/demo/schedules/default/validate_every",
            2,
            ["default needs either validations or validate_every"],
        ),
        ("scales/demo/schedules/default/validations", None, ["default needs either validations or validate_"]),
        ("scales/demo/schedules/default/patience", 0, ["schedules.default.patience is 0"]),
        ("benchmarks/mini_voc_5/scoring", "vco", ["benchmarks.mini_voc_5.scoring is 'vco'", "one of ['coco', 'voc']"]),
        ("scales/demo/schedules/default/frozen_stages", 6, ["schedules.default.frozen_stages is 6", "5 stages"]),
        (
            "scales/demo/pretrain/proseco/schedule/patience",
            3,
            ["no key of scales.demo.pretrain.proseco.schedule named"],
        ),
        ("scales/paper/pretrain/detreg/method/search/side", 8, ["detreg.method.search.side is 8", "16 pixels"]),
        ("scales/paper/pretrain/detreg/method/search/edge", 8, ["key of scales.paper.pretrain.detreg.method.search"]),
        (
            "scales/paper/pretrain/detreg/method/search/proposals/mode",
            "fats",
            ["detreg.method.search.proposals.mode is 'fats'; it must be one of ['fast', 'quality', 'single']"],
        ),
        ("scales/demo/propose/proposals/mode", 3, ["propose.proposals.mode is 3; it must be one of ['fast'"]),
        ("scales/paper/pretrain/detreg/method/search/proposals/name", "edge_boxes", ["'edge_boxes'", "opencv"]),
        ("scales/demo/detector/backbone/layers", [1, 1, 1], ["demo.detector.backbone.layers is [1, 1, 1]", "4 stages"]),
        ("scales/demo/pretrain/soco/method/boxes", 0, ["pretrain.soco.method.boxes is 0"]),
        ("scales/demo/pretrain/soco/method/first/blur", 1, ["key of scales.demo.pretrain.soco.method.first", "'blur'"]),
        (
            "scales/demo/pretrain/soco/method/filter/size",
            [0.8, 0.3],
            ["method.filter.size is [0.8, 0.3]", "[least, most]"],
        ),
        ("scales/demo/pretrain/soco/method/steps", 9, ["key of method soco named 'steps'"]),
        ("scales/demo/pretrain/soco/pictures", 4, ["key of scales.demo.pretrain.soco named 'pictures'"]),
        ("scales/demo/pretrain/soco/schedule/micro_batch", 4, ["soco.schedule.micro_batch is of no use"]),
        ("scales/demo/pretrain/soco/schedule/group_steps", 4, ["soco.schedule.group_steps is of no use"]),
        ("scales/demo/pretrain/soco/schedule/pad_to", 4, ["soco.schedule.pad_to is of no use"]),
        ("scales/demo/backbones/scrl/min_size", 65, ["scales.demo.backbones.scrl.min_size is 65", "side is 64"]),
        ("scales/demo/backbones/scrl/second/blur_sigma", 1.0, ["backbones.scrl.second.blur_sigma is 1.0"]),
        ("scales/demo/pretrain/proseco/method/boxes", 1.5, ["pretrain.proseco.method.boxes is 1.5", "int"]),
        ("scales/demo/pretrain/proseco/schedule/epochs", 3, ["pretrain.proseco.schedule", "either epochs or steps"]),
        ("scales/demo/pretrain/proseco/schedule/drop_at", 80, ["pretrain.proseco.schedule.drop_at is 80", "0..1"]),
        ("scales/demo/schedules/default/optimizer", "adam", ["optimizer named 'adam'", "adamw, lars, sgd"]),
        ("scales/demo/schedules/default/decay", "linear", ["decay named 'linear'", "cosine, step", "default"]),
        ("scales/demo/schedules/default/decay", "cosine", ["default.drop_at is of no use: decay cosine does"]),
        ("scales/demo/schedules/default/momentum", 0.9, ["default.momentum is of no use: optimizer adamw does"]),
        ("scales/demo/schedules/default/trust", 0.001, ["default.trust is of no use: optimizer adamw does"]),
        ("scales/demo/schedules/default/final", 0.1, ["default.final is of no use: decay step does not read it"]),
        ("scales/demo/schedules/default/warmup", 0.5, ["default.warmup is 0.5", "int"]),
        ("scales/demo/pretrain", {}, ["scales.demo.pretrain lacks proseco", "methods.proseco"]),
        (
            "scales/demo/pretrain/deterg",
            {"checkpoint": "x.pth"},
            ["method or plug-in named 'deterg'", "detreg_public", "scales.demo.pretrain"],
        ),
        ("scales/paper/pretrain/detreg_public/checkpoint", 3, ["pretrain.detreg_public.checkpoint is 3", "str"]),
        ("scales/paper/pretrain/detreg_public/pictures", 3, ["key of scales.paper.pretrain.detreg_public", "network"]),
        (
            "scales/paper/pretrain/detreg/views/weak/crop_min",
            601,
            ["pretrain.detreg.views.weak.crop_min is 601", "600"],
        ),
        (
            "scales/paper/pretrain/detreg/views/predict",
            {},
            ["key of scales.paper.pretrain.detreg.views", "strong, weak"],
        ),
        ("scales/paper/pretrain/updetr/method/boxes", 3, ["key of method updetr named 'boxes'", "patches"]),
        ("scales/demo/schedules/default/batch", 0, ["schedules.default.batch is 0"]),
        ("scales/demo/schedules/default/lr", "1e-4x", ["schedules.default.lr is '1e-4x'", "float"]),
        ("scales/demo/generate/side", "big", ["scales.demo.generate.side is 'big'", "int"]),
        ("scales/demo/generate/workers", 2, ["key of scales.demo.generate named 'workers'"]),
    ],
)
def test_a_mistake_is_one_line_with_value_choices_and_place(path, value, words):
    message = refusal(changed(path, value))
    assert message is not None
    assert [word for word in words if word not in message] == [], message


def test_a_schedule_may_have_the_keys_of_its_optimizer():
    whole, schedule = at("scales", "demo", "schedules", "default")
    del schedule["drop_at"]
    schedule |= {"optimizer": "lars", "momentum": 0.9, "trust": 0.001, "decay": "cosine", "final": 0.01, "warmup": 10}
    schedule["clip"] = None
    assert refusal(whole) is None
    schedule["patience"] = 3
    assert "default.patience would leave out the end of decay cosine" in refusal(whole)
    del schedule["patience"]
    for key, share in (("momentum", "the last update"), ("final", "the learning rate")):
        schedule[key] = 1.5
        assert f"default.{key} is 1.5; it is a share of {share}" in refusal(whole)
        schedule[key] = 1.0
    schedule["trust"] = 0
    assert "default.trust is 0; it must be more" in refusal(whole)


def test_a_row_may_come_from_a_file_at_one_scale_and_be_trained_at_another():
    whole = changed("scales/demo/pretrain/proseco", {"checkpoint": "proseco.safetensors", "network": "student"})
    assert refusal(whole) is None
    whole["run"]["methods"] = ["proseco_swav"]
    whole["methods"]["proseco_swav"]["backbone"] = "scrl"
    assert "scales.demo.pretrain lacks proseco, the plug-in of methods.proseco_swav" in refusal(whole)


def own(**changes):
    """A benchmark that needs no entry anywhere else."""
    entry = {"name": "voc", "title": "Mine", "root": "../mine", "train": "2020_train", "test": "2020_test"}
    whole = changed("benchmarks/mine", entry | {"rule": "file", "ids": "mine_{seed}.txt"} | changes)
    whole["run"]["benchmarks"] = ["mine"]
    return whole


def test_one_entry_is_enough_for_data_of_ones_own():
    assert refusal(own()) is None
    whole = own()
    whole["scales"]["demo"]["propose"]["unlabelled"]["main"]["root"] = "../mine"
    assert refusal(whole) is None
    del whole["scales"]["demo"]["schedules"]["default"]
    assert "schedules lacks mine" in refusal(whole)


def test_names_that_dvc_would_join_to_one():
    whole = own()
    mine = whole["benchmarks"]["mine"]
    whole["benchmarks"] |= {"small": mine | {"title": "Small"}, "voc-small": mine | {"title": "Small VOC"}}
    whole["methods"]["proseco-voc"] = whole["methods"]["proseco"] | {"title": "Mine"}
    whole["run"] |= {"methods": ["proseco", "proseco-voc"], "benchmarks": ["small", "mine"]}
    assert refusal(whole) is None
    whole["run"]["benchmarks"] = ["small", "voc-small"]
    assert refusal(whole) == (
        "run: 'proseco' on 'voc-small' and 'proseco-voc' on 'small' would be one stage, "
        "finetune@demo-proseco-voc-small-42; expected names that differ joined by '-' (params.yaml)"
    )


def test_rows_that_the_tables_could_not_tell_apart():
    whole = changed("methods/swav/title", "ProSeCo")
    assert refusal(whole) is None  # it is not selected
    whole["run"]["methods"] = ["proseco", "swav"]
    assert refusal(whole) == "run: rows 'proseco' and 'swav' have one title, 'ProSeCo'; expected two (params.yaml)"
    whole = changed("scales/demo/ablations/base", {"title": "ProSeCo"})
    whole["run"] |= {"ablations": ["base"], "ablation_benchmarks": ["mini_coco_5"]}
    assert "rows 'proseco' and 'base' have one title, 'ProSeCo'" in refusal(whole)
    assert refusal(whole | {"scale": "paper"}) is None
    whole = own()
    whole["benchmarks"]["again"] = whole["benchmarks"]["mine"]
    whole["run"]["benchmarks"] = ["mine", "again"]
    title = whole["benchmarks"]["mine"]["title"]
    assert f"benchmarks 'mine' and 'again' have one title, {title!r}" in refusal(whole)


def test_ablations_without_a_benchmark():
    whole = changed("run/ablations", ["sce"])
    words = "run.ablation_benchmarks is []; it must be a list of at least one benchmark (params.yaml)"
    assert refusal(whole) == words
    whole["run"]["ablation_benchmarks"] = ["coco_1x"]
    assert "(run.ablation_benchmarks; run.benchmarks has them split)" in refusal(whole)


def test_keys_of_a_benchmark_s_own_plugin():
    mine = {"name": "coco_json", "train": "train.json", "test": None}
    assert refusal(own(**mine, images="pictures")) is None
    assert "benchmarks.mine.images is 3" in refusal(own(**mine, images=3))
    assert "no key of benchmarks.mine named 'images'" in refusal(own(images="pictures"))  # voc has none


def test_subsets_lie_below_the_root():
    for key in ("train", "test", "images"):
        for path in ("/data/train.json", "../train.json", "a/../../b"):
            entry = {"name": "coco_json", "train": "train.json", "test": None} | {key: path}
            assert f"benchmarks.mine.{key} is {path!r}; it must lie below the root" in refusal(own(**entry))


@pytest.mark.parametrize("ids", ["/etc/passwd", "../mine.txt", "", "my file.txt"])
def test_id_files_lie_in_their_folder(ids):
    assert "benchmarks.mine.ids" in refusal(own(ids=ids)) and "splits/own" in refusal(own(ids=ids))


def test_a_mistake_is_found_without_torch():
    program = (
        "import sys; from proseco.experiment import plan; sys.exit(bool({'torch', 'torchvision'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_the_stage_ends_with_one_line(tmp_path):
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("  delta: 0.5", "  dleta: 0.5")
    assert "dleta" in text
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    command = [sys.executable, "-m", "stages.plan", "--scale", "demo"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no key of loss named 'dleta'; there is") and done.stderr.count("\n") == 1
    assert not list((tmp_path / "work").rglob("*.json"))

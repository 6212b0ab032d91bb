"""Images seen and hours, against the formula; which of several rates is taken."""

from functools import partial
from pathlib import Path

import pytest

from proseco.base import files
from proseco.base.errors import InputError
from proseco.experiment import estimate, matrix
from proseco.experiment.estimate import Rate
from tests import params_file

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """params.yaml, in a folder where nothing has run."""
    monkeypatch.chdir(tmp_path)
    return params_file.parameters()


def select(settings, scale="demo", **run):
    settings["scale"] = scale
    settings["run"] |= {"ablations": [], "ablation_benchmarks": [], "unlabelled": ["main"]} | run
    return settings


def by_work(found):
    return {(work.item.name, work.kind): work for work in found}


def write_speed(folder, rates, name="speed.csv", **facts):
    lines = ["step,images_per_second", *(f"{i},{rate}" for i, rate in enumerate(rates))]
    files.write_text(Path(folder, name), "".join(f"{line}\n" for line in lines))
    if facts:
        files.write_json(Path(folder, "run.json"), facts)


def test_steps_and_images_are_those_of_the_schedules(settings):
    select(settings, "paper", methods=["supervised", "proseco"], benchmarks=["mini_coco_5", "fsod_test"], seeds=[42])
    pretrain = settings["scales"]["paper"]["pretrain"]["proseco"]["schedule"]
    pretrain.update(batch=100, epochs=3)
    schedules = settings["scales"]["paper"]["schedules"]
    schedules["mini_coco_5"] |= {"batch": 10, "epochs": 4, "validate_every": 1, "patience": None}
    schedules["default"] |= {"batch": 30, "epochs": 2, "validate_every": 1.5}
    found = by_work(estimate.workloads(settings))
    images = 1_281_167
    work = found["propose@paper-main", "propose"]
    assert (work.images.images, work.batch, work.steps, work.seen) == (images, None, None, images)
    work = found["pretrain@paper-proseco", "pretrain"]
    assert (work.images.images, work.batch, work.steps) == (images, 100, round(3 * images / 100))
    assert work.seen == work.steps * 100
    assert ("pretrain@paper-supervised", "pretrain") not in found  # trains nothing
    assert not any(kind == "backbone" for _, kind in found)  # comes from a file
    for row in ("supervised", "proseco"):
        work = found[f"finetune@paper-{row}-mini_coco_5-42", "finetune"]
        assert (work.images.images, work.steps, work.seen) == (5914, round(4 * 591.4), round(4 * 591.4) * 10)
        scored = found[f"finetune@paper-{row}-mini_coco_5-42", "predict"]
        assert (scored.images.images, scored.seen) == (5000, 4 * 5000)  # the validation's are the test's
        scored = found[f"finetune@paper-{row}-fsod_test-42", "predict"]
        assert (scored.images.images, scored.seen) == (2830, 2 * 2830)  # after 1.5 epochs, and at the end
    assert len(found) == 2 + 2 * 2 * 2


def test_images_held_out_are_run_through_at_each_validation_and_the_test_images_once(settings):
    select(settings, methods=["proseco"], benchmarks=["mini_voc_10"], seeds=[1, 2])
    demo = settings["scales"]["demo"]
    demo["split"]["validation"] = 7
    demo["generate"].update(voc_trainval=50, voc_test=11)
    demo["schedules"]["default"].update(batch=5, steps=40, validations=3)
    found = by_work(estimate.workloads(settings))
    for seed in (1, 2):
        assert found[f"finetune@demo-proseco-mini_voc_10-{seed}", "finetune"].seen == 200
        work = found[f"finetune@demo-proseco-mini_voc_10-{seed}", "predict"]
        assert (work.images.images, work.seen, work.batch) == (18, 3 * 7 + 11, demo["finetune"]["predict_batch"])
    work = found["backbone@demo", "backbone"]
    assert work.backbone == "supervised" and work.seen == 500 * 64 and work.images.images == demo["generate"]["objects"]


def test_ablations_are_rows_with_their_own_schedule(settings):
    demo = settings["scales"]["demo"]
    demo["ablations"] = {"every": {"pretrain": {"schedule": {"steps": 9}}}}
    lists = {"ablations": ["sce", "supervised_100"], "ablation_benchmarks": ["mini_coco_5"]}
    select(settings, methods=["proseco"], benchmarks=["mini_coco_5", "mini_voc_10"], seeds=[42], **lists)
    found = by_work(estimate.workloads(settings))
    assert found["pretrain_ablation@demo-sce", "pretrain"].seen == 9 * 8
    assert ("pretrain_ablation@demo-supervised_100", "pretrain") not in found
    cells = sorted(name for name, kind in found if kind == "finetune" and "ablation" in name)
    assert cells == [f"finetune_ablation@demo-{row}-mini_coco_5-42" for row in ("sce", "supervised_100")]


def test_a_batch_larger_than_the_data_is_named_with_its_item(settings):
    select(settings, methods=["proseco"], benchmarks=["mini_coco_5"], seeds=[42])
    settings["scales"]["demo"]["generate"]["scenes"] = 7
    with pytest.raises(InputError, match=r"^pretrain@demo-proseco: a batch of 8 is larger than the data, 7 images"):
        estimate.workloads(settings)


def test_data_that_nothing_counts_leaves_steps_and_hours_open(settings):
    entry = {"name": "coco_json", "title": "Mine", "root": "../mine", "train": "a.json", "test": None, "rule": "all"}
    settings["benchmarks"]["mine"] = entry
    select(settings, "paper", methods=["supervised"], benchmarks=["mine"], seeds=[42])
    found = estimate.with_rates(estimate.workloads(settings), lambda work: Rate(5, "GPU", "x"), None)
    cells = [work for work in found if work.item.benchmark]
    assert [(work.steps, work.seen, work.hours) for work in cells] == [(None, None, None)] * 2
    assert [row[2:9] for row in estimate.table(found)[2:]] == [
        ["?", "32", "?", "?", "5", "x", "?"],
        ["?", "4", "", "?", "5", "x", "?"],
    ]


def test_hours_and_totals(settings):
    select(settings, methods=["proseco"], benchmarks=["mini_coco_5"], seeds=[42, 43])
    rates = {"propose": Rate(2, "core", "r"), "pretrain": Rate(3.5, "GPU", "r"), "finetune": Rate(4, "GPU", "r")}
    done = {"finetune@demo-proseco-mini_coco_5-43"}
    found = estimate.with_rates(estimate.workloads(settings), lambda work: rates.get(work.kind), done)
    hours = {work.kind: work.hours for work in found}
    assert hours["pretrain"] == 700 * 8 / 3.5 / 3600 and hours["finetune"] == 150 * 8 / 4 / 3600
    assert hours["propose"] == 1600 / 2 / 3600 and hours["predict"] is None
    assert [work.item.name for work in found if work.done and work.kind == "finetune"] == [*done]
    lines = {(row[0], row[-1]): row[1:-1] for row in estimate.totals(found)[1:]}
    assert lines["finetune", "GPU"] == ["2", "2,400", "0.17", "0.083"]
    assert lines["pretrain", "GPU"] == ["1", "5,600", "0.44", "0.44"]
    assert lines["predict", "?"] == ["2", "760", "?", "?"]
    assert lines["all", "GPU"] == ["3", "8,000", "0.61", "0.53"]
    assert lines["all", "core"] == ["1", "1,600", "0.22", "0.22"]


def test_rates_that_are_given(settings):
    items = matrix.items(select(settings))
    text = "pretrain=350, finetune@demo-proseco-mini_coco_5-42=1.5,propose=17"
    assert estimate.parse_rates(text, items, "GPU") == {
        "pretrain": Rate(350, "GPU", "given"),
        "finetune@demo-proseco-mini_coco_5-42": Rate(1.5, "GPU", "given"),
        "propose": Rate(17, "core", "given"),
    }
    assert estimate.parse_rates("", items, "CPU") == {}
    for text, words in (("pretrian=3", "'pretrian'.*pretrain"), ("predict=0", "predict is '0'"), ("predict", "''")):
        with pytest.raises(InputError, match=words):
            estimate.parse_rates(text, items, "GPU")
    for wrong in ("x", "nan", "inf", "-1"):
        with pytest.raises(InputError, match="must be a number above 0"):
            estimate.parse_rates(f"predict={wrong}", items, "GPU")


def test_only_the_search_that_was_measured_has_its_rate(settings):
    paper, demo = (settings["scales"][scale]["propose"]["proposals"] for scale in ("paper", "demo"))
    assert estimate.known_search_rate(paper).images == pytest.approx(20.41, abs=0.01)
    assert estimate.known_search_rate(demo) is None  # smaller images
    assert estimate.known_search_rate({"name": "random"}) is None


def test_own_runs_come_before_those_of_rows_like_it(settings):
    select(settings, methods=["supervised", "proseco", "proseco_swav"], benchmarks=["mini_coco_5"], seeds=[1, 2])
    found = by_work(estimate.workloads(settings))
    rate = partial(estimate.recorded_rate, settings, results=Path("results/demo"))
    pretrain = found["pretrain@demo-proseco_swav", "pretrain"]
    cell = found["finetune@demo-supervised-mini_coco_5-1", "finetune"]
    assert rate(pretrain) is None and rate(cell) is None
    write_speed("results/demo/pretrain/proseco", [1, 50, 40, 41], processes=2, device="cuda:0")
    assert rate(pretrain) == Rate(40.5 / 2, "GPU", "results/demo/pretrain/proseco")
    write_speed("results/demo/pretrain/proseco_swav", [7], processes=1, device="cpu")
    assert rate(pretrain) == Rate(7, "CPU", "results/demo/pretrain/proseco_swav")
    write_speed("results/demo/finetune/proseco/mini_coco_5/1", [30], processes=1, device="cpu")
    assert rate(cell) == Rate(30, "CPU", "results/demo/finetune/proseco/mini_coco_5/1")
    for seed, value in ((2, 11), (3, 12), (4, 40)):
        write_speed(f"results/demo/finetune/supervised/mini_coco_5/{seed}", [value], processes=1, device="cpu")
    assert rate(cell) == Rate(12, "CPU", "3 runs")
    write_speed("results/demo/finetune/supervised/mini_coco_5/1", [99], processes=1, device="cpu")
    assert rate(cell).images == 99
    scored = found["finetune@demo-supervised-mini_coco_5-1", "predict"]
    assert rate(scored) is None
    write_speed("results/demo/finetune/proseco/mini_coco_5/2", [77], "predict.csv")
    assert rate(scored).images == 77
    backbone = found["backbone@demo", "backbone"]
    there = f"results/demo/backbone/{backbone.backbone}"
    write_speed(there, [300])
    assert rate(backbone) == Rate(300, "CPU", there)
    for hardware, device in (("2 x NVIDIA A100-SXM4-40GB", "GPU"), ("2 x AMD EPYC (4 threads)", "CPU")):
        files.write_json(f"{there}/cost.json", {"hardware": hardware, "processes": 2})
        assert rate(backbone) == Rate(150, device, f"{there} ({hardware})")


def test_a_detector_of_another_kind_lends_no_rate(settings):
    demo = settings["scales"]["demo"]
    demo["detectors"] = {"other": {"name": "other", "schedule": {}}}
    settings["methods"]["other"] = settings["methods"]["supervised"] | {"detector": "other"}
    select(settings, methods=["supervised", "other"], benchmarks=["mini_coco_5"], seeds=[1])
    write_speed("results/demo/finetune/supervised/mini_coco_5/1", [30], processes=1, device="cpu")
    found = by_work(estimate.workloads(settings))
    rate = partial(estimate.recorded_rate, settings, results=Path("results/demo"))
    assert rate(found["finetune@demo-supervised-mini_coco_5-1", "finetune"]).images == 30
    assert rate(found["finetune@demo-other-mini_coco_5-1", "finetune"]) is None

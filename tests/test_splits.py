import itertools
from pathlib import Path

import numpy as np
import pytest

from proseco import splits
from proseco.base.errors import InputError
from proseco.base.files import text_digest
from proseco.data import id_files

IDS = Path(__file__).resolve().parents[1] / "../shared/data/ids"


def real_ids(*names):
    if not IDS.is_dir():
        pytest.skip(f"no real samples at {IDS}")
    return [key for name in names for key in (IDS / f"{name}.txt").read_text().split()]


@pytest.mark.parametrize(("fraction", "count"), [(0.005, 591), (0.01, 1183), (0.05, 5914), (0.1, 11829)])
def test_mini_coco_is_the_public_draw(fraction, count):
    keys = real_ids("coco_train2017")
    assert len(keys) == 118287
    chosen = splits.uniform(reversed(keys), fraction=fraction, seed=42)
    draw = np.random.default_rng(42).choice(sorted(int(key) for key in keys), count, replace=False)
    assert len(chosen) == count
    assert [int(key) for key in chosen] == sorted(draw.tolist())


@pytest.mark.parametrize(("fraction", "count"), [(0.05, 828), (0.1, 1655)])
def test_mini_voc(fraction, count):
    keys = real_ids("voc2007_trainval", "voc2012_trainval")
    assert len(keys) == 16551
    chosen = splits.uniform(keys, fraction=fraction, seed=42)
    draw = np.random.default_rng(42).choice(sorted(keys), count, replace=False)
    assert len(chosen) == count
    assert chosen == sorted(draw.tolist())
    assert chosen != splits.uniform(keys, fraction=fraction, seed=43)


def labels(shown):
    """COCO-format dict from key -> classes."""
    names = sorted(set(itertools.chain(*shown.values())))
    images = [{"id": number, "key": key, "file_name": f"{key}.jpg"} for number, key in enumerate(shown)]
    return {
        "images": images,
        "annotations": [
            {"image_id": image["id"], "category_id": names.index(name), "iscrowd": 0, "difficult": 0}
            for image in images
            for name in shown[image["key"]]
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
    }


def test_rules():
    given = labels({str(n): {"a"} for n in range(37)})
    assert splits.sample(given, rule="all") == ([str(n) for n in range(37)], [])
    keys, notes = splits.sample(given, rule="uniform", fraction=0.3, seed=5)
    assert (len(keys), notes) == (11, [])
    assert (keys, notes) == splits.sample(given, rule="uniform", fraction=0.3, seed=5)
    assert len(splits.sample(given, rule="uniform", fraction=0.001, seed=5)[0]) == 1
    assert len(splits.sample(given, rule="cover", fraction=0.8, seed=5)[0]) == 30
    with pytest.raises(InputError, match="no rule named 'half'; there is all, cover, file, uniform"):
        splits.sample(given, rule="half")
    for fraction in (0, -0.1, 1.5, float("nan"), None, "0.5"):
        with pytest.raises(InputError, match="fraction is"):
            splits.sample(given, rule="uniform", fraction=fraction)
    with pytest.raises(InputError, match="no images"):
        splits.sample(labels({}), rule="uniform", fraction=0.5)


def test_crowds_and_difficult_objects_show_no_class():
    given = labels({"1": {"a", "b"}, "2": {"a", "b", "c"}})
    given["annotations"][0]["iscrowd"] = 1
    given["annotations"][3]["difficult"] = 1
    hidden = [
        (record["image_id"], record["category_id"])
        for record in given["annotations"]
        if record["iscrowd"] or record["difficult"]
    ]
    full = {"1": {"a", "b"}, "2": {"a", "b", "c"}}
    for image, category in hidden:
        full[given["images"][image]["key"]].discard("abc"[category])
    assert splits.presence(given) == full
    assert sum(map(len, full.values())) == 3


def sides(shown, chosen):
    rest = set(shown) - set(chosen)
    inside = set(itertools.chain(*(shown[key] for key in chosen)))
    outside = set(itertools.chain(*(shown[key] for key in rest)))
    return inside, outside


@pytest.mark.parametrize("seed", range(5))
def test_cover_has_every_class_on_both_sides(seed):
    rng = np.random.default_rng(seed)
    # 90 classes, the rare ones with 2-3 images, some of them in one image.
    shown = {str(n): {f"c{rng.integers(20)}" for _ in range(rng.integers(0, 4))} for n in range(400)}
    for number in range(20, 90):
        for key in rng.choice(400, size=2 + number % 2, replace=False):
            shown[str(key)].add(f"c{number}")
    chosen, notes = splits.cover(shown, fraction=0.8, seed=seed)
    everything = {f"c{n}" for n in range(90)}
    plain = splits.uniform(shown, fraction=0.8, seed=seed)
    assert sides(shown, plain)[1] != everything  # the plain draw does miss some
    assert notes == []
    assert sides(shown, chosen) == (everything, everything)
    assert len(chosen) == 320
    assert len(set(chosen) - set(plain)) < 100  # and most of it stays
    assert (chosen, notes) == splits.cover(dict(reversed(shown.items())), fraction=0.8, seed=seed)
    assert chosen != splits.cover(shown, fraction=0.8, seed=seed + 100)[0]


def test_cover_without_rare_classes_is_the_uniform_draw():
    shown = {str(n): {"a", "b"} for n in range(50)}
    assert splits.cover(shown, fraction=0.8, seed=1) == (splits.uniform(shown, fraction=0.8, seed=1), [])


@pytest.mark.parametrize(
    ("seed", "digest"), [(0, "2e23e3e210983993d78d16720019ff77"), (1, "bcf702a2862a0fc98e1ca1fa2d08c17d")]
)
def test_cover_draws_what_it_drew_before(seed, digest):
    """Splits by this rule are not published: whoever has the labels must be able to draw them again."""
    rng = np.random.default_rng(seed)
    shown = {str(n): {f"c{rng.integers(20)}" for _ in range(rng.integers(0, 4))} for n in range(400)}
    for number in range(20, 90):
        for key in rng.choice(400, size=2 + number % 2, replace=False):
            shown[str(key)].add(f"c{number}")
    assert text_digest(" ".join(splits.cover(shown, fraction=0.8, seed=seed)[0])) == digest


@pytest.mark.parametrize("seed", range(5))
def test_two_image_classes_in_a_long_chain_alternate(seed):
    # Image n shares one class with n - 1 and another with n + 1: only two of the 2^60 splits cover them all.
    shown = {str(n): {f"c{n}", f"c{n + 1}"} for n in range(60)}
    shown["0"].discard("c0")
    shown["59"].discard("c60")
    chosen, notes = splits.cover(shown, fraction=0.8, seed=seed)
    assert {int(key) % 2 for key in chosen} in ({0}, {1})
    assert len(chosen) == 30
    assert notes == ["drew 30 of 60 images, not 48: moving more would uncover a class"]


def feasible(shown):
    """Whether any split puts every class on both sides, single-image classes drawn, tried one by one."""
    keys = list(shown)
    images = {}
    for key, names in shown.items():
        for name in names:
            images.setdefault(name, []).append(key)
    for inside in itertools.product([False, True], repeat=len(keys)):
        drawn = dict(zip(keys, inside, strict=True))
        if all(
            {drawn[key] for key in where} == ({True} if len(where) == 1 else {True, False}) for where in images.values()
        ):
            return True
    return False


@pytest.mark.parametrize(
    ("images", "classes", "sizes", "cases"),
    [(7, (3, 7), [1, 2, 2, 2, 3, 4], 150), (9, (8, 22), [2, 3, 3, 3, 3, 4], 500)],
)
def test_cover_finds_a_split_wherever_there_is_one(images, classes, sizes, cases):
    rng = np.random.default_rng(7)
    found = 0
    for seed in range(cases):
        shown = {str(n): set() for n in range(images)}
        for number in range(rng.integers(*classes)):
            for key in rng.choice(images, size=rng.choice(sizes), replace=False):
                shown[str(key)].add(f"c{number}")
        chosen, notes = splits.cover(shown, fraction=0.8, seed=seed)
        inside, outside = sides(shown, chosen)
        count = {name: sum(name in names for names in shown.values()) for name in inside | outside}
        missed = {name for name in count if name not in inside or name not in outside}
        assert {note.split("'")[1] for note in notes if note.startswith("class")} == missed
        assert all(name in inside for name in count if count[name] == 1)
        if {count[name] for name in missed} <= {1}:
            found += 1
        else:
            assert not feasible(shown), (seed, shown)
    assert 20 < found < cases


def test_a_class_with_one_image_is_drawn_and_reported():
    shown = {str(n): {"a"} for n in range(20)}
    shown["7"].add("rare")
    for seed in range(10):
        chosen, notes = splits.cover(shown, fraction=0.5, seed=seed)
        assert "7" in chosen
        assert len(chosen) == 10
        assert notes == ["class 'rare' is only among the drawn: it has 1 image"]


def test_a_class_between_two_drawn_images_is_reported():
    # "1" and "2" are drawn for their own classes, so the class they share cannot be among the rest.
    shown = {str(n): {"a"} for n in range(12)}
    shown["1"] |= {"one", "both"}
    shown["2"] |= {"two", "both"}
    chosen, notes = splits.cover(shown, fraction=0.5, seed=0)
    assert {"1", "2"} <= set(chosen)
    assert len(chosen) == 6
    assert [note.split("'")[1] for note in notes] == ["both", "one", "two"]


def test_held_out_is_disjoint_and_seeded():
    keys = [str(n) for n in range(100)]
    chosen = splits.uniform(keys, fraction=0.6, seed=3)
    validation = splits.held_out(keys, chosen, 15, 3)
    assert len(set(validation)) == 15
    assert not set(validation) & set(chosen)
    assert validation == id_files.sorted_keys(validation)
    assert validation == splits.held_out(reversed(keys), reversed(chosen), 15, 3)
    assert validation != splits.held_out(keys, chosen, 15, 4)
    assert splits.held_out(keys, keys, 0, 3) == []
    assert len(splits.held_out(keys, chosen, 40, 3)) == 40
    with pytest.raises(InputError, match="41 images: expected a number from 0 to 40"):
        splits.held_out(keys, chosen, 41, 3)


def test_a_rule_is_read_off_a_benchmarks_entry(tmp_path):
    entry = {"name": "coco", "title": "Mine", "train": "a + b", "rule": "file", "ids": "mine_{seed}.txt"}
    assert splits.rule_of(entry, tmp_path) == {"rule": "file", "ids": tmp_path / "mine_{seed}.txt"}
    said = {"data_set": "coco", "subset": "a_+_b", "benchmark": "mine", "rule": "file", "ids": "mine_{seed}.txt"}
    assert splits.facts_of("mine", entry) == said
    assert splits.rule_of({"rule": "cover", "fraction": 0.5, "test": None}, tmp_path) == {
        "rule": "cover",
        "fraction": 0.5,
    }


@pytest.mark.parametrize("header", [True, False])
def test_an_id_file_of_ones_own(tmp_path, header):
    given = labels({str(n): {"a"} for n in range(20)})
    for seed in (3, 4):
        path = tmp_path / f"mine_{seed}.txt"
        if header:
            id_files.write(path, ["12", "7", str(seed)], made="by hand".replace(" ", "_"))
        else:
            path.write_text(f"# a comment\n12\n7\n{seed}\n")
        found = splits.sample(given, rule="file", ids=tmp_path / "mine_{seed}.txt", seed=seed)
        assert found == ([str(seed), "7", "12"], [])
    drawn = splits.draw(given, None, "file", ids=tmp_path / "mine_3.txt", seed=9, validation="test")
    assert len(drawn.keys["test"]) == 17 and drawn.published == ["train", "test"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("7\n000012\n99\n", "2 of the 3 ids in '.*mine.txt' are not among the 20 images .*'000012'.* such as '0'"),
        ("", "0 of the 0 ids in '.*mine.txt'"),
        ("7\n8\n7\n", "mine.txt', line 3: id '7' again, first in line 1"),
        ("7\n\n8\n", "mine.txt', line 2: a blank line"),
        ("# count=3 digest=0\n7\n8\n", "line 1: says count=3, but 2 ids follow"),
        ("# count=2 digest=0\n7\n8\n", "line 1: the ids are not those"),
    ],
)
def test_a_wrong_id_file_of_ones_own_is_refused(tmp_path, text, words):
    (tmp_path / "mine.txt").write_text(text)
    given = labels({str(n): {"a"} for n in range(20)})
    with pytest.raises(InputError, match=words):
        splits.sample(given, rule="file", ids=tmp_path / "mine.txt")


def test_an_id_file_of_ones_own_for_a_data_set_without_images(tmp_path):
    (tmp_path / "mine.txt").write_text("7\n")
    with pytest.raises(InputError, match=r"1 of the 1 ids .* the 0 images .*; expected one or more of its ids$"):
        splits.sample(labels({}), rule="file", ids=tmp_path / "mine.txt")


def test_a_missing_id_file_of_ones_own(tmp_path):
    with pytest.raises(InputError, match=r"no id file '.*mine\.txt'; expected one id a line"):
        splits.sample(labels({"1": {"a"}}), rule="file", ids=tmp_path / "mine.txt")


def test_where_the_rule_leaves_nothing_validation_is_held_out_of_the_labelled(tmp_path):
    keys = [str(n) for n in range(20)]
    whole, test = labels({key: {"a"} for key in keys}), labels({"50": {"a"}})
    id_files.write(tmp_path / "mine.txt", keys)
    for rule in ({"rule": "all"}, {"rule": "uniform", "fraction": 1.0}, {"rule": "file", "ids": tmp_path / "mine.txt"}):
        drawn = splits.draw(whole, test, **rule, seed=1, validation=3).keys
        assert len(drawn["val"]) == 3 and sorted(drawn["train"] + drawn["val"]) == sorted(keys)


@pytest.mark.parametrize("rule", [{"rule": "cover", "fraction": 0.4}, {"rule": "uniform", "fraction": 0.4}])
@pytest.mark.parametrize("seed", range(8))
def test_validation_takes_no_class_away_from_training(rule, seed):
    shown = {str(n): {"common", f"rare {n // 5}"} if n % 5 < 2 else {"common"} for n in range(60)}
    whole = labels(shown)
    labelled, _ = splits.sample(whole, **rule, seed=seed)
    drawn = splits.draw(whole, None, **rule, seed=seed, validation=4)
    assert len(drawn.keys["val"]) == 4 and sorted(drawn.keys["val"] + drawn.keys["train"]) == sorted(labelled)
    before, after = (set().union(*(shown[key] for key in keys)) for keys in (labelled, drawn.keys["train"]))
    assert before == after
    if rule["rule"] == "uniform":  # and what was held out without it is where it can be
        plain = splits.held_out(labelled, [], 4, seed)
        alone = {key for key in plain if sum(shown[key] <= shown[other] for other in labelled) == 1}
        assert alone or drawn.keys["val"] == plain


def test_validation_takes_what_there_is_where_every_image_is_its_class_s_last():
    whole = labels({str(n): {f"class {n}"} for n in range(10)})
    drawn = splits.draw(whole, labels({"50": {"class 3"}, "51": {"class 4"}}), rule="all", seed=0, validation=2)
    assert drawn.keys["val"] == splits.held_out(drawn.keys["train"] + drawn.keys["val"], [], 2, 0)


def test_classes_to_score_that_no_training_image_shows_are_noted():
    whole = labels({str(n): {"a", "b"} for n in range(10)})
    test = labels({"50": {"a", "c"}, "51": {"d"}, "52": set()})
    notes = splits.draw(whole, test, rule="uniform", fraction=0.5, seed=0, validation=2).notes
    assert notes == ["none of the 5 images to train on shows 2 of the 3 classes that are scored: c, d"]
    test = labels({"50": {"a"}, "51": {"b"}})
    assert splits.draw(whole, test, rule="uniform", fraction=0.5, seed=0, validation=2).notes == []
    rare = labels({str(n): {"a", "b"} if n == 7 else {"a"} for n in range(10)})
    found = [splits.draw(rare, None, rule="uniform", fraction=0.5, seed=s, validation="test") for s in range(9)]
    lost = ["none of the 5 images to train on shows 1 of the 2 classes that are scored: b"]
    assert [drawn.notes for drawn in found] == [[] if "7" in drawn.keys["train"] else lost for drawn in found]
    assert {len(drawn.notes) for drawn in found} == {0, 1}


def test_what_is_trained_or_validated_on_is_not_scored(tmp_path):
    whole = labels({str(n): {"a"} for n in range(20)})
    test = labels({str(n): {"a"} for n in range(30, 36)})
    draw = {"rule": "uniform", "fraction": 0.5, "seed": 1, "validation": 3}
    keys = splits.draw(whole, test, **draw).keys
    names = {image["key"]: image["file_name"] for image in whole["images"]}
    for key, refused in ((keys["train"][2], True), (keys["val"][1], True), (None, False)):
        key = key or min(set(names) - set(keys["train"]) - set(keys["val"]))
        test["images"][4]["file_name"] = names[key]  # under another key
        if refused:
            with pytest.raises(InputError, match=f"^1 of 6 test images are among .* the first is '{names[key]}'; exp"):
                splits.draw(whole, test, **draw)
        else:
            splits.draw(whole, test, **draw)
    id_files.write(tmp_path / "mine.txt", ["1", "2", "3"])
    splits.draw(whole, labels({"7": {"a"}}), "file", ids=tmp_path / "mine.txt", seed=0, validation="test")


def test_of_a_class_s_last_two_images_one_is_left_to_train_on():
    whole = labels({str(n): {"common", "rare"} if n < 2 else {"common"} for n in range(10)})
    for seed in range(400):
        drawn = splits.draw(whole, labels({"50": {"rare"}}), "all", seed=seed, validation=2)
        assert drawn.notes == [] and len(drawn.keys["val"]) == 2


def test_what_is_published_was_drawn():
    whole, test = labels({str(n): {"a"} for n in range(20)}), labels({str(n): {"a"} for n in range(50, 55)})
    draw = {"rule": "uniform", "fraction": 0.5, "seed": 1}
    assert splits.draw(whole, test, **draw, validation="test").published == ["train"]
    assert splits.draw(whole, test, **draw, validation=3).published == ["train", "val"]
    assert splits.draw(whole, None, **draw, validation="test").published == ["train", "test"]
    assert splits.draw(whole, None, **draw, validation=2).published == ["train", "test", "val"]
    with pytest.raises(InputError, match="rule 'all' takes all 20 images"):
        splits.draw(whole, None, "all", seed=1, validation="test")


def test_labels_too_few_to_hold_any_out_are_refused():
    whole = {"images": [{"id": i, "key": f"k{i}"} for i in range(4)], "annotations": [], "categories": []}
    with pytest.raises(InputError, match=r"4 labelled images: .*split\.validation to test"):
        splits.draw(whole, whole, rule="all", validation=2, seed=0)

import pytest

from proseco.base import params
from proseco.base.errors import InputError


def write(folder, text):
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    return folder / "params.yaml"


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    found = params.load(write(tmp_path, "lr: 1e-4\nratio: 2.0e-4\nyes: on\nname: null\nids: [1, 2]\n"))
    assert found == {"lr": 1e-4, "ratio": 2e-4, "yes": "on", "name": None, "ids": [1, 2]}
    assert type(found["lr"]) is float and type(found) is dict


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "is not YAML: "),
        ("a: 1\na: 2\n", "is not YAML: .*duplicate key"),
        ("a:\n\t- b", "is not YAML: "),
        ("", "holds no mapping"),
        ("- a\n- b\n", "holds no mapping"),
    ],
)
def test_what_is_not_parameters_is_refused_in_one_line(tmp_path, text, words):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=words) as caught:
        params.load(path)
    assert "\n" not in str(caught.value) and "params.yaml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no file '.*nowhere\.yaml'; stages run in the repository's root"):
        params.load(tmp_path / "nowhere.yaml")


def test_a_value_by_its_keys():
    tree = {"scales": {"demo": {"seed": 3}, "paper": {}}, "list": [1]}
    assert params.get(tree, "scales", "demo", "seed") == 3
    assert params.get(tree, "scales", "demo") is tree["scales"]["demo"]
    for keys, words in (
        (("scale",), r"no key of params.yaml named 'scale'; there is list, scales"),
        (("scales", "dmeo", "seed"), r"no key of scales named 'dmeo'; there is demo, paper \(params.yaml\)"),
        (("scales", "demo", "seed", "x"), "no key of scales.demo.seed named 'x'"),
        (("list", 0), "no key of list named 0"),
    ):
        with pytest.raises(InputError, match=words):
            params.get(tree, *keys)


def test_roots(tmp_path):
    roots = {"coco": str(tmp_path), "voc": None, "fsod": str(tmp_path / "absent")}
    tree = {"scales": {"demo": {"roots": roots}}}
    assert params.root(tree, "demo", "coco") == params.root(tree, "demo", "coco", archive=True) == tmp_path
    (tmp_path / "train.tar").touch()
    roots["number"] = 5
    roots["imagenet"] = str(tmp_path / "train.tar")
    assert params.root(tree, "demo", "imagenet", archive=True) == tmp_path / "train.tar"
    with pytest.raises(InputError, match=r"roots\.imagenet: no folder '.*train\.tar'"):
        params.root(tree, "demo", "imagenet")
    assert params.root(tree, "demo", "coco") == tmp_path
    (tmp_path / "mine").mkdir()
    assert params.root(tree, "demo", f"{tmp_path}/mine") == tmp_path / "mine"  # a folder, not a key
    for name, words in (
        ("./absent", r"root: no folder '\./absent' \(params\.yaml\)"),
        ("voc", r"scales\.demo\.roots\.voc is null; set it .*params\.yaml"),
        ("fsod", r"scales\.demo\.roots\.fsod: no folder '.*absent' \(params\.yaml\)"),
        ("number", r"scales\.demo\.roots\.number is 5; it must be a folder or null"),
        ("lvis", r"no key of scales\.demo\.roots named 'lvis'; there is coco, fsod, imagenet, number, voc"),
    ):
        with pytest.raises(InputError, match=words):
            params.root(tree, "demo", name)
    tree["benchmarks"] = {"harbour": {"root": "./absent"}, "coco_1x": {"root": "coco"}, "wrong": None}
    tree["scales"]["demo"]["propose"] = {"unlabelled": {"main": {"root": "./absent"}, "other": {"root": "coco"}}}
    place = r"^benchmarks\.harbour\.root, scales\.demo\.propose\.unlabelled\.main\.root: no folder '\./absent' \(params"
    with pytest.raises(InputError, match=place):
        params.root(tree, "demo", "./absent")
    unlabelled = {"sam": {"root": "coco", "proposals": {"root": "./boxes"}}}
    propose = {"unlabelled": unlabelled, "proposals": {"root": "./all"}}
    tree["scales"]["demo"]["propose"] = propose
    for folder, place in (("./boxes", "propose.unlabelled.sam.proposals"), ("./all", "propose.proposals")):
        with pytest.raises(InputError, match=rf"^scales\.demo\.{place}\.root: no folder '{folder}' \(params"):
            params.root(tree, "demo", folder)


def test_an_entry_gets_the_folder_of_its_data_set(tmp_path):
    tree = {"scales": {"demo": {"roots": {"sam": str(tmp_path)}}}}
    entry = {"name": "stored", "root": "sam"}
    assert params.located(tree, "demo", entry) == {"name": "stored", "root": str(tmp_path)} and entry["root"] == "sam"
    assert params.located(tree, "demo", {"name": "random"}) == {"name": "random"}

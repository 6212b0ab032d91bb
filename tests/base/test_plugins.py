import ast

import pytest

from proseco.base import plugins
from proseco.base.errors import InputError


def test_a_file_is_a_plugin_unless_its_name_begins_with_an_underscore():
    assert plugins.names("losses") == ["infonce", "locnce", "locsce", "sce"]
    assert "_contrast" not in plugins.names("losses") and "__init__" not in plugins.names("losses")
    assert plugins.names("benchmarks") == ["coco", "coco_json", "fsod", "voc", "voc_xml"]


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_plugin_defines_its_function_with_keyword_only_options(kind):
    assert plugins.names(kind)
    for name in plugins.names(kind):
        known = plugins.keywords(kind, name)
        assert all(isinstance(must, bool) for must in known.values())
        source = (plugins._PACKAGE / kind / f"{name}.py").read_text(encoding="utf-8")
        function = next(
            n for n in ast.parse(source).body if isinstance(n, ast.FunctionDef) and n.name == plugins.KINDS[kind]
        )
        assert not function.args.defaults, f"{kind}/{name}: options must be keyword-only"
        assert function.args.vararg is None and function.args.kwarg is None


def test_the_signature_is_the_schema():
    assert plugins.keywords("losses", "locnce") == {"anchors": False, "tau": False, "delta": False}
    assert plugins.keywords("proposals", "random") == {"seed": True, "count": False, "min_side": False}
    assert plugins.types("proposals", "random") == {"seed": "int", "count": "int", "min_side": "float"}


def test_the_first_argument_says_what_a_method_trains():
    networks, detectors = plugins.methods_over("network"), plugins.methods_over("detector")
    assert {"classification", "swav", "scrl"} <= set(networks) and {"supervised", "proseco"} <= set(detectors)
    assert sorted(networks + detectors) == plugins.names("methods")  # every method is over one or the other


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("losses", "no loss named 'x'; there is infonce, locnce, locsce, sce .one file each in proseco/losses/."),
        ("benchmarks", "no benchmark named 'x'; there is coco, coco_json, fsod, voc, voc_xml .one file each in "),
    ],
)
def test_an_unknown_name_is_told_the_choices(kind, words):
    with pytest.raises(InputError, match=words):
        plugins.load(kind, "x")
    with pytest.raises(InputError, match=words):
        plugins.check(kind, {"name": "x"}, place="here")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"name": "random", "cuont": 3}, "no key of proposal random named 'cuont'; there is count, min_side .here"),
        ({"name": "random", "seed": 3}, "no key of proposal random named 'seed'; there is count, min_side .here"),
        ({"count": 3}, "here needs a key 'name', one of opencv, random, selective_search, stored; it is {'count': 3}"),
        ("random", "here needs a key 'name', one of opencv, random, selective_search, stored; it is 'random'"),
    ],
)
def test_an_entry_is_refused_before_its_plugin_is_imported(spec, words):
    with pytest.raises(InputError, match=words):
        plugins.check("proposals", spec, given={"seed"}, place="here")


def test_a_missing_key_is_named():
    with pytest.raises(InputError, match=r"here lacks seed, needed by proseco/proposals/random\.py"):
        plugins.check("proposals", {"name": "random"}, place="here")


def test_options_are_the_keys_of_an_entry_that_the_plugin_takes():
    entry = {"name": "random", "title": "x", "count": 7}
    assert plugins.options("proposals", entry) == {"count": 7}
    assert plugins.options("benchmarks", {"name": "coco", "images": "x"}) == {}
    assert plugins.options("benchmarks", {"name": "coco_json", "images": "x", "root": "y"}) == {"images": "x"}


def test_a_plugin_is_bound_to_the_keys_that_it_takes():
    import numpy as np

    propose = plugins.bind("proposals", {"name": "random", "title": "x", "count": 7})
    assert propose(np.zeros((20, 30, 3), np.uint8), seed=5).shape == (7, 4)


def test_call_joins_the_entry_and_what_the_program_gives():
    import numpy as np

    image = np.zeros((20, 30, 3), np.uint8)
    boxes = plugins.call("proposals", {"name": "random", "count": 7}, image, seed=5)
    assert boxes.shape == (7, 4)
    with pytest.raises(InputError, match="no key of proposal random named 'seed'"):
        plugins.call("proposals", {"name": "random", "seed": 1}, image, seed=5)


def test_a_new_file_is_a_plugin(tmp_path, monkeypatch):
    (tmp_path / "losses").mkdir()
    (tmp_path / "losses/mine.py").write_text("import nothing_there\n\ndef loss(z, *, a, b=1): ...\n")
    (tmp_path / "losses/empty.py").write_text("")
    (tmp_path / "losses/_shared.py").write_text("")
    monkeypatch.setattr(plugins, "_PACKAGE", tmp_path)
    plugins.keywords.cache_clear()
    try:
        assert plugins.names("losses") == ["empty", "mine"]
        assert plugins.keywords("losses", "mine") == {"a": True, "b": False}  # not imported: it could not be
        plugins.check("losses", {"name": "mine", "a": 1}, place="here")
        with pytest.raises(TypeError, match=r"proseco/losses/empty\.py defines no function loss"):
            plugins.keywords("losses", "empty")
    finally:
        plugins.keywords.cache_clear()

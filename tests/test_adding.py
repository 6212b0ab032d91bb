"""docs/adding.md followed from scratch, in a copy of the project: its examples, taken from the page itself."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from proseco.experiment import rows
from tests import params_file
from tests.test_pipeline import change, dvc, make_small, ran

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(python|yaml)\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Kind of plug-in -> the examples of the page.
ADDED = {
    "losses": ["cosine"],
    "methods": ["localise", "rotation"],
    "detectors": ["points"],
    "benchmarks": ["objectness"],
    "proposals": ["grid"],
}


@pytest.fixture(scope="module")
def blocks():
    """(path, content) of the code blocks of the page, in order."""
    text = (ROOT / "docs/adding.md").read_text(encoding="utf-8")
    found = [(path, content) for _, path, content in BLOCK.findall(text)]
    assert len(found) == text.count("```") // 2, "every block says in its first line what file it is of"
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory, blocks):
    """The project with all that the page adds."""
    folder = tmp_path_factory.mktemp("adding")
    for part in ("proseco", "stages", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "pyproject.toml", ".gitignore", ".dvcignore"):
        shutil.copy2(ROOT / name, folder / name)
    params_file.write(folder)
    shutil.copytree(ROOT / "splits/own", folder / "splits/own")
    shutil.copytree(ROOT / ".dvc", folder / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    yaml = YAML(typ="safe")
    params = yaml.load(folder / "params.yaml")
    for path, content in blocks:
        if path == "params.yaml":
            params = rows.merged(params, yaml.load(content))
        else:
            assert not (folder / path).exists(), path
            (folder / path).write_text(content, encoding="utf-8")
    yaml.default_flow_style = False
    yaml.dump(params, folder / "params.yaml")
    return folder


def python(folder, *words):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_page_has_an_example_of_each_kind(blocks):
    files = [f"proseco/{kind}/{name}.py" for kind, names in ADDED.items() for name in names]
    assert sorted(path for path, _ in blocks if path != "params.yaml") == sorted(files)


def test_the_contract_tests_find_the_examples_and_they_pass(project):
    chosen = " or ".join(name for names in ADDED.values() for name in names)
    tests = ["tests/test_contracts.py", "-k", chosen, "-v", "-p", "no:cacheprovider"]
    result = python(project, "-m", "pytest", *tests)
    assert result.returncode == 0, result.stdout
    found = re.findall(r"::(test_\w+)\[(\S+)\] PASSED", result.stdout)
    passed = {(test, part) for test, parts in found for part in parts.split("-")}
    assert passed >= {(f"test_{kind}", name) for kind, names in ADDED.items() for name in names}
    assert ("test_methods_that_pretrain_give_two_detectors", "localise") in passed
    assert ("test_detectors_without_a_class_head", "points") in passed


def test_style_of_the_examples(project):
    files = [f"proseco/{kind}/{name}.py" for kind, names in ADDED.items() for name in names]
    for check in (["check"], ["format", "--check"]):
        result = python(project, "-m", "ruff", *check, "--no-cache", *files)
        assert result.returncode == 0, result.stdout


SELECTED = """
from proseco.experiment import plan, schema
from proseco.base import params
from proseco.base.errors import InputError

whole = params.load()
whole["run"] |= {"methods": ["localise", "rotation", "points", "proseco_grid"], "benchmarks": ["objectness_10"]}
whole["run"]["unlabelled"] = ["main", "grid"]
whole["run"] |= {"ablations": ["cosine"], "ablation_benchmarks": ["objectness_10"]}
found = plan.resolve(whole)
print(found["backbone.json"]["files"]["rotation"], found["pretrain/localise.json"]["method"]["boxes"])
print(found["finetune/points/objectness_10.json"]["detector"]["name"], found["pretrain/cosine.json"]["loss"]["name"])
print(found["propose/grid.json"]["proposals"]["finest"], *sorted(found["backbone.json"]["code"]))
for change in ({"methods": {"rotation": {"name": "rotation"}}}, {"backbones": {"rotation": {"name": "localise"}}}):
    wrong = params.load()
    place = wrong if "methods" in change else wrong["scales"]["demo"]
    for section, entries in change.items():
        for name, entry in entries.items():
            place[section][name] |= entry
    try:
        schema.check(wrong)
    except InputError as error:
        print(error)
"""


def test_the_entries_are_read_and_a_method_of_the_wrong_kind_is_refused(project):
    result = python(project, "-c", SELECTED)
    assert result.returncode == 0, result.stderr
    *lines, row, backbone = result.stdout.splitlines()
    assert " ".join(lines[:3]).startswith("rotation 15 points cosine 5") and "proseco/methods/rotation.py" in lines[2]
    assert "no method over a detector named 'rotation'" in row and "localise" in row and "methods.rotation.name" in row
    assert "no method over a network named 'localise'" in backbone and "rotation" in backbone
    assert "backbones.rotation.name" in backbone and "swav" in backbone


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_examples_run(project):
    """From images to the table, on all of them."""

    def select(params):
        make_small(params)
        demo = params["scales"]["demo"]
        for entry in (demo["backbones"]["rotation"], demo["pretrain"]["localise"]):
            entry["schedule"].update(steps=2, batch=4, log_every=1)
        demo["schedules"]["default"].update(steps=2, batch=2, log_every=1)
        params["run"].update(methods=["supervised", "localise", "rotation", "points"], benchmarks=["objectness_10"])
        params["run"].update(ablations=["cosine"], ablation_benchmarks=["objectness_10"])

    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    change(project, select)
    result = dvc(project, "repro")
    assert result.returncode == 0, result.stdout + result.stderr
    assert {"backbone@demo", "pretrain@demo-localise", "finetune@demo-points-objectness_10-42"} <= ran(result)
    table = (project / "tables/demo/results.md").read_text()
    assert all(words in table for words in ("Localise", "RotNet", "Points", "COCO objects 10 %"))
    assert (project / "results/demo/backbone/rotation/log.csv").read_text().startswith("step,")

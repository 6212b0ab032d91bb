"""Who may import whom, and whether dvc.yaml knows. Imports are read from the source, those inside functions too."""

import ast
import fnmatch
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from proseco.base import plugins
from proseco.experiment import plan, rows, selection
from tests import params_file

ROOT = Path(__file__).resolve().parents[1]
# From the bottom up. A part imports itself and what is further down, not its neighbours.
LAYERS = (
    ("base",),
    ("boxes",),
    ("data", "losses", "training", "tables"),
    ("proposals", "benchmarks", "splits", "demo", "nn", "weights"),
    ("experiment",),
    ("detectors",),
    ("methods",),
    ("evaluation",),
    ("runs",),
    ("stages", "commands"),
    ("__main__",),
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
# Single files that belong to a part of another name.
BELONGS = {"pictures": "tables"}
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("proseco", "stages")
    for path in (ROOT / folder).rglob("*.py")
    if path.name != "__init__.py"
)
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
PARAMS = params_file.parameters()


@cache
def tree(source):
    return ast.parse((ROOT / source).read_text(encoding="utf-8"))


def part(source):
    folder, name = source.split("/")[:2]
    name = name.removesuffix(".py")
    return folder if folder == "stages" else BELONGS.get(name, name)


@cache
def modules(source):
    """Dotted names of all that a file imports; of ``from a import b`` both ``a`` and ``a.b``."""
    found = set()
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source}:{node.lineno}: write the whole name, as everywhere"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


@cache
def imports(source):
    """Files of ours that a file imports. ``__init__.py`` are left out: they hold nothing that runs (tested below)."""
    return frozenset({name.replace(".", "/") + ".py" for name in modules(source)} & set(SOURCES))


@cache
def loads(source):
    """(kind, name) of the plug-ins that a file loads; the name is None where it comes from the parameters."""
    found = set()
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("plugins.load", "plugins.bind", "plugins.call"):
            kind = node.args[0]
            assert isinstance(kind, ast.Constant), f"{source}:{node.lineno}: write the kind of plug-in out"
            assert kind.value in plugins.KINDS, f"{source}:{node.lineno}: no plug-ins of kind {kind.value!r}"
            spec = node.args[1]
            literal = isinstance(spec, ast.Dict) and ast.literal_eval(spec)["name"]
            found.add((kind.value, literal or None))
    return frozenset(found)


def closure(sources):
    """These files and all that they import, directly or not."""
    left, seen = list(sources), set()
    while left:
        source = left.pop()
        if source not in seen:
            seen.add(source)
            left += imports(source)
    return seen


def plugin_file(kind, name):
    return f"proseco/{kind}/{name}.py"


def in_plugin_folder(source):
    return source.split("/")[1] in plugins.KINDS


def complete(scale, name):
    """Whether a scale has all that a method needs; it need not, as long as it does not run it."""
    section = PARAMS["scales"][scale]
    if not rows.has_detector(PARAMS, scale, name):
        return False
    row = rows.row(PARAMS, scale, name)
    pretrained = row.plugin == selection.NOT_PRETRAINED or row.plugin in section["pretrain"]
    return pretrained and (row.backbone in section["backbones"] or row.from_file)


@cache
def settings():
    """Everything that stage plan can write, of every scale and every row: (scale, file name) -> content."""
    found = {}
    for scale, section in PARAMS["scales"].items():
        there = [name for name in PARAMS["methods"] if complete(scale, name)]
        ablations = [name for name, entry in PARAMS["ablations"].items() if entry["of"] in there]
        ablations = {"ablations": ablations, "ablation_benchmarks": PARAMS["run"]["benchmarks"][:1]}
        run = PARAMS["run"] | ablations | {"methods": there, "unlabelled": [*section["propose"]["unlabelled"]]}
        found |= {
            (scale, name): content for name, content in plan.resolve({**PARAMS, "scale": scale, "run": run}).items()
        }
    return found


def entries_of(content):
    """(kind, name) of the plug-ins that a file of settings names."""
    fields = {"method": "methods", "loss": "losses", "detector": "detectors", "proposals": "proposals"}
    found = {(kind, content[field]["name"]) for field, kind in fields.items() if content.get(field)}
    if search := (content.get("method") or {}).get("search"):
        found.add(("proposals", search["proposals"]["name"]))
    return found | {("methods", e["name"]) for e in content.get("backbones", {}).values() if "name" in e}


def deps(stage):
    return (STAGES[stage].get("do") or STAGES[stage])["deps"]


def written_by_plan(stage):
    """Settings that a stage depends on, of every scale and method."""
    patterns = [re.sub(r"\$\{[^}]*\}", "*", dep).partition("/plan/")[2] for dep in deps(stage) if "/plan/" in dep]
    patterns = [pattern if pattern.endswith(".json") else f"{pattern}/*" for pattern in patterns]
    return [c for (_, name), c in settings().items() if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def needs(stage):
    """Files of ours that a stage runs, less the plug-ins whose source is in settings that the stage depends on."""
    script = f"stages/{stage.removesuffix('_ablation')}.py"
    found = closure([script])
    asked = set().union(*(loads(source) for source in found))
    found = closure(found | {plugin_file(kind, name) for kind, name in asked if name})
    digested = set()
    for kind in sorted(kind for kind, name in asked if name is None):
        if f"proseco/{kind}" in deps(stage):
            found |= closure(plugin_file(kind, name) for name in plugins.names(kind))
            continue
        written = [content for content in written_by_plan(stage) if content.get("code")]
        names = {name for content in written for k, name in entries_of(content) if k == kind}
        assert names, f"stage {stage} loads {kind}: depend on proseco/{kind} or on settings of stage plan"
        reached = closure(plugin_file(kind, name) for name in names)
        digested |= {source for source in reached if in_plugin_folder(source)}
        found |= reached
    return found - (digested - closure([script]))


def covers(dep, source):
    return source == dep or source.startswith(f"{dep}/")


@pytest.mark.parametrize("source", SOURCES)
def test_imports_go_downward(source):
    here = part(source)
    assert here in LEVEL, f"{source} is in no layer; add it to the list in this test"
    used = {part(other) for other in imports(source)} | {kind for kind, _ in loads(source)}
    if here == "stages":
        assert not {other for other in imports(source) if part(other) == "stages"}, "stages do not import each other"
    upward = sorted(other for other in used if other != here and LEVEL[other] >= LEVEL[here])
    assert not upward, f"{source} ({here}) may not use {', '.join(upward)}"


def test_packages_hold_nothing_that_runs():
    """So that dvc.yaml need not list them: docstrings, and the version."""
    for path in [*ROOT.glob("proseco/**/__init__.py"), ROOT / "stages/__init__.py"]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            constant = isinstance(node, ast.Expr | ast.Assign) and isinstance(node.value, ast.Constant)
            assert constant, f"{path}:{node.lineno} runs code"


def test_only_the_registry_imports_by_name():
    """Else the tests of this file would not see what is imported."""
    called = {s: {ast.unparse(n.func) for n in ast.walk(tree(s)) if isinstance(n, ast.Call)} for s in SOURCES}
    by_name = {"importlib.import_module", "import_module", "__import__", "exec", "eval"}
    assert [s for s in SOURCES if called[s] & by_name] == ["proseco/base/plugins.py"]


def test_only_the_parameters_know_yaml():
    knows = {"yaml", "ruamel"}
    assert [s for s in SOURCES if knows & {name.split(".")[0] for name in modules(s)}] == ["proseco/base/params.py"]
    readers = [s for s in SOURCES if "proseco.base.params" in modules(s)]
    allowed = ("stages", "commands")
    assert readers and all(part(s) in allowed for s in readers), "the library takes keyword arguments"


def test_numba_compiles_by_way_of_machine_code_alone():
    """Its own cache takes no notice of a change in another file."""
    compilers = re.compile(r"^import numba|^from numba import .*\b(n?jit|(gu)?vectorize|cfunc|stencil)\b", re.MULTILINE)
    found = [s for s in SOURCES if compilers.search((ROOT / s).read_text(encoding="utf-8"))]
    assert found == ["proseco/base/machine_code.py"]


def test_only_the_environment_counts_cores():
    """Else one place forgets that a program may be allowed a few of the machine's."""
    counts = re.compile(r"\bos\.(cpu_count|process_cpu_count|sched_getaffinity)\b")
    found = [s for s in SOURCES if counts.search((ROOT / s).read_text(encoding="utf-8"))]
    assert found == ["proseco/base/environment.py"]


def test_every_stage_has_its_script():
    """Ablations are rows of stages of their own, which differ in nothing else."""
    scripts = {Path(source).stem for source in SOURCES if part(source) == "stages"}
    assert scripts == {stage.removesuffix("_ablation") for stage in STAGES}
    for stage, entry in STAGES.items():
        script = stage.removesuffix("_ablation")
        assert (entry.get("do") or entry)["cmd"].startswith(f"python -m stages.{script} "), stage
        if stage != script:
            assert {k: v for k, v in entry.items() if k != "matrix"} == {
                k: v for k, v in STAGES[script].items() if k != "matrix"
            }


def test_what_may_refuse_its_input_in_minutes_runs_before_the_proposals():
    """DVC goes down the file. Labels, validation counts and checkpoints are read before hours of work, not after."""
    order = list(STAGES)
    assert {"plan", "data", "inventory", "split", "backbone"} == set(order[: order.index("propose")])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_code_that_it_runs(stage):
    missing = sorted(source for source in needs(stage) if not any(covers(dep, source) for dep in deps(stage)))
    assert not missing, f"dvc.yaml, stage {stage}: deps lack {', '.join(missing)}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_no_other_code(stage):
    """A file that it does not run would rerun hours for nothing. Of a folder, two files in three must be run."""
    needed = needs(stage)
    if stage == "plan":  # it reads the signatures and digests of all plug-ins
        needed |= {source for source in SOURCES if in_plugin_folder(source)}
        assert {f"proseco/{kind}" for kind in plugins.KINDS} <= set(deps(stage))
    for dep in deps(stage):
        if not dep.startswith(("proseco/", "stages/")):
            continue
        assert (ROOT / dep).exists(), dep
        below = [source for source in SOURCES if covers(dep, source)]
        if below:
            assert len(needed & set(below)) * 3 >= len(below) * 2, f"stage {stage} does not need {dep}"
        else:  # data that a module reads
            text = "".join((ROOT / source).read_text(encoding="utf-8") for source in needed)
            assert Path(dep).name in text, f"stage {stage} does not read {dep}"


@pytest.mark.parametrize("key", settings(), ids=lambda key: "-".join(key))
def test_settings_hold_the_digest_of_every_plugin_file_that_is_used(key):
    content = settings()[key]
    used = {plugin_file(kind, name) for kind, name in entries_of(content)}
    if key[1].startswith("pretrain/") and content["method"] is None and content["checkpoint"] is None:
        assert content["code"] is None
        return
    if key[1].startswith("source/"):  # a name of shards
        assert set(content) == {"data"}
        return
    assert set(content["code"]) == {source for source in closure(used) if in_plugin_folder(source)}


def test_stages_without_a_network_need_no_torch():
    """Importing torch costs seconds, and the parameters must be checked in one."""
    light = ["data", "inventory", "plan", "propose", "recall", "source", "split", "tabulate"]
    program = f"import sys; {'; '.join(f'import stages.{name}' for name in light)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0

from proseco.base import files, sources


def names(*starts):
    return list(sources.digests(starts))


def test_a_closure_holds_what_is_imported_at_any_remove():
    assert names("proseco/base/errors.py") == ["proseco/base/errors.py"]
    assert names("proseco/base/cli.py") == ["proseco/base/cli.py", "proseco/base/errors.py"]
    found = names("stages/pretrain.py")
    assert {"stages/pretrain.py", "proseco/runs/pretraining.py", "proseco/training/loop.py"} <= set(found)
    assert not [name for name in found if name.startswith(("proseco/evaluation", "tests/"))]
    assert "proseco/losses/locsce.py" not in found and "proseco/losses/_contrast.py" in names(
        *found, "proseco/losses/sce.py"
    )


def test_digests_are_of_the_content():
    assert sources.digests(["proseco/base/errors.py"]) == {
        "proseco/base/errors.py": files.digest(sources.__file__.replace("sources", "errors"))
    }


def test_relative_imports_count_from_the_file():
    """As a plug-in may have them: a change of what it imports reruns its rows, too."""
    package = "proseco.methods"
    for line, found in (
        ("from ._views import SCALE", {"proseco.methods._views", "proseco.methods._views.SCALE"}),
        ("from . import _views", {"proseco.methods", "proseco.methods._views"}),
        ("from ..nn import matcher", {"proseco.nn", "proseco.nn.matcher"}),
        ("from .. import boxes", {"proseco.boxes"}),
        ("import proseco.nn.heads, torch", {"proseco.nn.heads"}),
    ):
        assert set(sources._names(line, package)) == found, line

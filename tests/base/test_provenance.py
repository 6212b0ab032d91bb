import json
import os
import subprocess
from pathlib import Path

import cv2
import numpy as np

from proseco.base import files, provenance


def test_the_record_says_what_ran(monkeypatch, tmp_path):
    facts = provenance.record(seed=3)
    assert facts["seed"] == 3 and set(facts["versions"]) >= {"torch", "numpy"}
    assert json.dumps(facts)
    monkeypatch.chdir(tmp_path)  # no repository here
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", os.fspath(Path(tmp_path).parent))
    assert provenance.record()["commit"] is None and provenance.record()["dirty"] is None


def test_versions_of_what_is_there_and_of_what_is_not(monkeypatch):
    installed = provenance.versions("numpy", "opencv", "no-such-package")
    assert installed == {"numpy": np.__version__, "opencv": installed["opencv"], "no-such-package": None}
    assert installed["opencv"].startswith(cv2.__version__)
    there = {"opencv-python": "4.9"}
    monkeypatch.setattr(provenance, "_version", there.get)
    assert provenance.versions("opencv", "numpy") == {"opencv": "4.9", "numpy": None}


def test_without_git_the_commit_is_unknown(monkeypatch, tmp_path):
    """At the end of a training, which must not fail for it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    facts = provenance.record(seed=3)
    assert (facts["commit"], facts["dirty"], facts["seed"]) == (None, None, 3)


def test_the_record_says_whether_code_was_changed(monkeypatch, tmp_path):
    def git(*words):
        name = ["-c", "user.name=n", "-c", "user.email=e"]
        subprocess.run(["git", *name, *words], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.chdir(tmp_path)
    git("init")
    assert provenance.record()["commit"] is None  # of a repository without any
    for path in ("proseco/boxes.py", "stages/plan.py", "tables/results.md"):
        files.write_text(path, "as it was")
    git("add", ".")
    git("commit", "-m", "all")
    assert len(provenance.record()["commit"]) == 40 and provenance.record()["dirty"] is False
    files.write_text("tables/results.md", "DVC's")
    assert provenance.record()["dirty"] is False
    files.write_text("proseco/new.py", "a plug-in that no commit has")
    assert provenance.record()["dirty"] is True
    Path("proseco/new.py").unlink()
    assert provenance.record()["dirty"] is False
    files.write_text("stages/plan.py", "changed")
    assert provenance.record()["dirty"] is True
    monkeypatch.chdir("tables")
    assert provenance.record()["dirty"] is True

"""params.yaml stands in the form in which DVC writes it, so that `dvc exp run -S` changes the lines that it sets."""

import shutil
from pathlib import Path

from dvc.utils.serialize import modify_yaml

ROOT = Path(__file__).resolve().parents[2]


def test_what_dvc_writes_back_is_what_it_read(tmp_path):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    with modify_yaml(tmp_path / "params.yaml") as content:
        delta = content["loss"]["delta"]
        content["loss"]["delta"] = 0.123
    before, after = (folder.joinpath("params.yaml").read_text().splitlines() for folder in (ROOT, tmp_path))
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 1 and str(delta) in changed[0][0] and "0.123" in changed[0][1], changed[:5]

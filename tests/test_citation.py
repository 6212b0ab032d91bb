from pathlib import Path

import proseco
from proseco.base import params


def test_it_cites_this_version():
    said = params.load(Path(__file__).resolve().parents[1] / "CITATION.cff")
    assert (said["title"].split(":")[0], said["version"]) == ("proseco", proseco.__version__)
    assert {"cff-version", "message", "authors"} <= set(said)
    assert said["references"][0]["authors"][0]["family-names"] == "Bouniot"

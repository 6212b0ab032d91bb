"""List what is on disk, so that later stages depend on a small manifest instead of a million files."""

from pathlib import Path

from proseco.base import cli, files, params
from proseco.data import inventory


def main(*, scale: str) -> None:
    """Write a manifest (counts, bytes, digest) of every data set that the run needs."""
    settings = params.load()
    section = params.get(settings, "scales", scale)
    names = {section["propose"]["root"]}
    names |= {entry["root"] for entry in section["backbones"].values() if "root" in entry}
    names |= {settings["benchmarks"][name]["root"] for name in settings["run"]["benchmarks"]}
    with files.replacing(Path("work", scale, "inventory")) as out:
        for name in sorted(names):
            files.write_json(out / f"{name}.json", inventory.manifest(params.root(settings, scale, name)))


if __name__ == "__main__":
    cli.run(main)

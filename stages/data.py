"""Put the data sets in place: draw the demo's, or see that those of the other scales are there."""

from pathlib import Path

from proseco.base import cli, files, params
from proseco.base.errors import InputError
from proseco.demo import data_sets

#: What this stage writes in the folder of a scale, and replaces.
OURS = {"roots.json"}
DRAWN = {"imagenet", "scenes", "coco", "voc", "fsod", "scenes.png"}  # the last one: of versions before
NOBODYS = {".DS_Store", "Thumbs.db", "desktop.ini"}  # file browsers leave them wherever they look


def main(*, scale: str) -> None:
    """Generate the demo's data sets, or check the roots of the data sets on disk."""
    settings = params.load()
    generate = params.get(settings, "scales", scale, "generate")
    roots = params.get(settings, "scales", scale, "roots")
    _refuse_others(Path("data", scale), OURS if generate is None else OURS | DRAWN)
    with files.replacing(Path("data", scale)) as out:
        if generate is not None:
            data_sets.write(out, **generate)
        else:
            files.write_json(out / "roots.json", _locate(settings, scale, roots))


def _locate(settings: dict, scale: str, roots: dict) -> dict[str, str]:
    """Where each data set is that has a root; all that are missing are named together."""
    located, wrong = {}, []
    for name in [name for name, where in roots.items() if where is not None]:
        try:
            located[name] = str(params.root(settings, scale, name, archive=True))
        except InputError as error:
            wrong.append(str(error))
    if wrong:
        raise InputError("; ".join(wrong) + "; a data set that you do not have, and do not select, may be null")
    return located


def _refuse_others(folder: Path, ours: set[str]) -> None:
    """A data set that someone has put into this folder would go with what was there before.

    dvc.yaml has the folder as persistent: otherwise DVC would remove it before this is asked.
    """
    known = ours | NOBODYS
    others = sorted(path.name for path in folder.iterdir() if path.name not in known) if folder.is_dir() else []
    if others:
        raise InputError(
            f"{(folder / others[0]).as_posix()!r} is not of this stage, which replaces all of {folder.as_posix()!r}; "
            "move it elsewhere, and scales.<scale>.roots with it (params.yaml)"
        )


if __name__ == "__main__":
    cli.run(main)

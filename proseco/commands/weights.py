"""``python -m proseco weights``: look into checkpoints, take public ones in, give ours out (docs/weights.md)."""

from pathlib import Path
from typing import TYPE_CHECKING

from proseco.base import files
from proseco.base.errors import InputError, one_of

if TYPE_CHECKING:
    from proseco.runs.public import Content, Loaded

# Importing torch takes seconds, which --help and a misspelt option need not: it is imported where it is used.


def show(file: Path, *, network: str | None = None, heads: int | None = None) -> None:
    """Say which detector a file holds, and name what is missing, unexpected or of another shape.

    :param file: .pth or .safetensors.
    :param network: which of the file's networks, such as student.
    :param heads: of attention, where the file does not tell.
    """
    from proseco.runs import public

    content = public.look(file, network=network, heads=heads)
    _describe(content)
    if content.found.other_names:
        print(f"beside it: {public.summary(content.found.other_names)}")
    for kind, names in content.differences.items():
        for name in names:
            print(f"{kind}: {name}")


def import_file(
    file: Path,
    *,
    out: Path,
    network: str | None = None,
    heads: int | None = None,
    classes: int | None = None,
    new_head: bool = False,
) -> None:
    """Write a public Deformable DETR or DETReg file as a checkpoint of ours.

    :param file: .pth or .safetensors.
    :param out: the checkpoint, with one network, detector.
    :param network: which of the file's networks, where it has several.
    :param heads: of attention, where the file does not tell.
    :param classes: that the class head must have; else as many as the file's.
    :param new_head: draw the class head anew, of so many classes.
    """
    from proseco.weights import checkpoint

    _refuse(out)
    loaded = _load(file, network, heads, classes, new_head)
    facts = {"detector": loaded.entry, "classes": loaded.classes, "source": file.name, "digest": files.digest(file)}
    checkpoint.save(out, {"detector": loaded.model.state_dict()}, facts)
    print(f"wrote {out}, network detector")


def export(
    file: Path,
    *,
    to: str,
    out: Path,
    network: str | None = None,
    heads: int | None = None,
    classes: int | None = None,
    new_head: bool = False,
) -> None:
    """Write a detector for other programs.

    :param file: a checkpoint of ours, or a public one.
    :param to: deformable_detr, transformers or safetensors.
    :param out: the file, or for transformers the folder.
    :param network: which of the file's networks: student or teacher of a pretraining.
    :param heads: of attention, where the file does not tell.
    :param classes: that the class head must have; else as many as the file's.
    :param new_head: draw the class head anew, of so many classes.
    """
    from proseco.weights import export

    _refuse(out)
    if to not in export.FORMATS:
        raise one_of("format", to, export.FORMATS, "--to")
    loaded = _load(file, network, heads, classes, new_head)
    if to == "transformers" and loaded.classes is None:
        raise InputError(f"{str(file)!r} has no class head, which transformers needs: --classes N --new-head draws one")
    export.write(out, to, loaded.model.state_dict(), detector=loaded.entry, classes=loaded.classes)
    print(f"wrote {out}{'' if loaded.classes else ', which has no class head'}")


def _refuse(out: Path) -> None:
    """What is written replaces what was there whole: that must be no folder, nor the .json that lies beside weights."""
    if out.is_dir():
        raise InputError(f"--out {str(out)!r} is a folder that is there already; name a new one, or remove it")
    if out.suffix == ".json":
        raise InputError(f"--out {str(out)!r} would hold weights; .json is of the settings beside them")


def _load(file: Path, network: str | None, heads: int | None, classes: int | None, new_head: bool) -> "Loaded":
    from proseco.runs import public

    content = public.look(file, network=network, heads=heads)
    _describe(content)
    loaded = public.load(file, content, classes=classes, new_head=new_head)
    for kind, names in (("left out", loaded.left), ("drawn anew", loaded.new)):
        if names:
            print(f"{kind}: {public.summary(names)}")
    return loaded


def _describe(content: "Content") -> None:
    for key, value in content.entry.items():
        print(f"{key}: {value}")
    print(f"class head: {f'{content.classes} classes' if content.classes else 'none'}")


COMMANDS = {"show": show, "import": import_file, "export": export}

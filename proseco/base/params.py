"""params.yaml, read as DVC reads it."""

import json
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from proseco.base import files
from proseco.base.errors import InputError, one_of


def load(path: str | Path = "params.yaml") -> dict:
    """The parameters as plain dictionaries.

    ruamel.yaml is DVC's own parser; PyYAML would read ``1e-4`` as a string.

    :raises InputError: missing, or not a YAML mapping.
    """
    try:
        content = YAML(typ="safe").load(Path(path))
    except FileNotFoundError:
        raise InputError(f"no file {str(path)!r}; stages run in the repository's root") from None
    except YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no mapping")
    return content


def replace(section: str, value: dict, path: str | Path = "params.yaml") -> None:
    """Replace the value of a top-level section; the rest of the file keeps its bytes.

    Comments within the section are lost, except those on the lines of keys that stay. Comments that begin a line just
    before the next section are that one's.

    :raises InputError: as :func:`load`, there is no such section, or it is written in another form than ours; the file
        is left alone.
    """
    former = load(path)
    get(former, section)
    refused = InputError(
        f"{path}: cannot replace {section!r}; expected '{section}:' alone in a line, its keys indented below it"
    )
    text = Path(path).read_bytes().decode("utf-8")  # with the ends of lines that it has
    match = re.search(rf"^{re.escape(section)}:.*?(?=^[^\s#]|\Z)", text, re.MULTILINE | re.DOTALL)
    if match is None:
        raise refused
    own = match[0].splitlines(keepends=True)
    while len(own) > 1 and (not own[-1].strip() or own[-1].startswith("#")):
        own.pop()
    comments = dict(re.findall(r"^  (\w+):[^\n]*?( +#[^\"'\r\n]*)\r?$", "".join(own), re.MULTILINE))
    lines = [own[0].rstrip("\r\n")]
    for key, content in value.items():
        block = content if isinstance(content, list) else None
        inline = "" if block else f" {json.dumps(content)}"
        lines.append(f"  {key}:{inline}{comments.get(key, '')}")
        lines += [
            f"  - {item if YAML(typ='safe').load(str(item)) == item else json.dumps(item)}" for item in block or ()
        ]
    end = "\r\n" if own[0].endswith("\r\n") else "\n"
    changed = text[: match.start()] + end.join([*lines, ""]) + text[match.start() + len("".join(own)) :]
    try:
        as_meant = YAML(typ="safe").load(changed) == former | {section: value}
    except YAMLError:
        as_meant = False
    if not as_meant:
        raise refused
    files.write_text(path, changed)


def get(params: dict, *keys: str) -> Any:
    """A value by its path of keys.

    :raises InputError: a key does not exist; the message names the choices and the place.
    """
    value = params
    for depth, key in enumerate(keys):
        if not isinstance(value, dict) or key not in value:
            place = ".".join(map(str, keys[:depth])) or "params.yaml"
            raise one_of(f"key of {place}", key, value if isinstance(value, dict) else [], "params.yaml")
        value = value[key]
    return value


def root(params: dict, scale: str, name: str, *, archive: bool = False) -> Path:
    """The folder of a data set.

    :param name: a key of the scale's ``roots`` or, with a slash in it, the folder itself.
    :param archive: whether a tar file may take the place of the folder.
    :raises InputError: no such key, null, or no such folder.
    """
    if "/" in name:
        where, place = name, _given_by(params, scale, name)
    else:
        where, place = get(params, "scales", scale, "roots", name), f"scales.{scale}.roots.{name}"
    if where is None:
        raise InputError(f"{place} is null; set it to the folder of the data set (params.yaml)")
    if not isinstance(where, str):
        raise InputError(f"{place} is {where!r}; it must be a folder or null (params.yaml)")
    path = Path(where)
    if not (path.is_dir() or (archive and path.is_file())):
        raise InputError(f"{place}: no folder {where!r} (params.yaml)")
    return path


def located(params: dict, scale: str, entry: dict) -> dict:
    """A plug-in's entry, with the absolute path in the place of the data set that its ``root`` names, if it has one.

    :raises InputError: as :func:`root`.
    """
    return entry | {"root": str(root(params, scale, entry["root"]).absolute())} if "root" in entry else entry


def _given_by(params: dict, scale: str, folder: str) -> str:
    """The keys whose value is this folder, for a message; a benchmark and the images to pretrain on may share one."""
    section = params["scales"][scale]
    propose = section.get("propose", {})
    unlabelled = propose.get("unlabelled", {})
    parts = {
        "benchmarks": params.get("benchmarks", {}),
        f"scales.{scale}.propose.unlabelled": unlabelled,
        f"scales.{scale}.backbones": section.get("backbones", {}),
        f"scales.{scale}.propose": {"proposals": propose.get("proposals")},
        **{
            f"scales.{scale}.propose.unlabelled.{name}": {"proposals": e.get("proposals")}
            for name, e in unlabelled.items()
        },
    }
    keys = [
        f"{part}.{name}.root"
        for part, entries in parts.items()
        for name, entry in entries.items()
        if isinstance(entry, dict) and entry.get("root") == folder
    ]
    return ", ".join(keys) or "root"

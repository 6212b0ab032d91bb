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

    Comments within the section are lost, except those on the lines of keys that stay.

    :raises InputError: as :func:`load`, or there is no such section.
    """
    get(load(path), section)
    text = Path(path).read_text(encoding="utf-8")
    match = re.search(rf"^{re.escape(section)}:.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    comments = dict(re.findall(r"^  (\w+):[^#\n]*?( *#[^\n]*)$", match[0], re.MULTILINE))
    lines = [match[0].partition("\n")[0]]
    for key, content in value.items():
        block = content if isinstance(content, list) else None
        inline = "" if block else f" {json.dumps(content)}"
        lines.append(f"  {key}:{inline}{comments.get(key, '')}")
        lines += [
            f"  - {item if YAML(typ='safe').load(str(item)) == item else json.dumps(item)}" for item in block or ()
        ]
    files.write_text(path, text[: match.start()] + "\n".join(lines) + "\n\n" + text[match.end() :])


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


def _given_by(params: dict, scale: str, folder: str) -> str:
    """The keys whose value is this folder, for a message; a benchmark and the images to pretrain on may share one."""
    section = params["scales"][scale]
    parts = {
        "benchmarks": params.get("benchmarks", {}),
        f"scales.{scale}.propose.unlabelled": section.get("propose", {}).get("unlabelled", {}),
        f"scales.{scale}.backbones": section.get("backbones", {}),
    }
    keys = [
        f"{part}.{name}.root"
        for part, entries in parts.items()
        for name, entry in entries.items()
        if isinstance(entry, dict) and entry.get("root") == folder
    ]
    return ", ".join(keys) or "root"

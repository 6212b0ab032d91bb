"""What made an artifact: the commit, the versions of packages, the machine."""

import platform
import subprocess
from importlib import metadata

#: Folders of code, from the root of the working tree.
_CODE = (":/proseco", ":/stages")
#: Packages that several wheels of other names provide.
_WHEELS = {"opencv": [f"opencv-{kind}python{screen}" for kind in ("contrib-", "") for screen in ("-headless", "")]}


def record(**facts) -> dict:
    """The content of an artifact's ``run.json``: code, versions, machine type and the given facts.

    ``commit`` is None where there is no Git or no commit. ``dirty`` says whether code differs from the commit; other
    files do not count, as DVC writes some that Git tracks, tables among them, while stages run.
    """
    commit = _git("rev-parse", "HEAD") or None
    changes = _git("--no-optional-locks", "status", "--porcelain", "--untracked-files=normal", "--", *_CODE)
    return {
        "commit": commit,
        "dirty": None if commit is None or changes is None else bool(changes),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": versions("torch", "torchvision", "numpy", "opencv"),
        **facts,
    }


def versions(*names: str) -> dict[str, str | None]:
    """Versions of packages, None for those that are not installed. OpenCV comes in one of four wheels."""
    return {name: next(filter(None, map(_version, _WHEELS.get(name, (name,)))), None) for name in names}


def _version(wheel: str) -> str | None:
    try:
        return metadata.version(wheel)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """The output of a Git command; None where there is no Git or the command fails."""
    try:
        git = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return git.stdout.strip() if git.returncode == 0 else None

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from proseco.base import cli

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = '''
import os

from proseco.base import cli
from proseco.base.errors import InputError


def main(*, scale: str, seed: int, share: float = 0.5) -> None:
    """Do a thing.

    More of it.
    """
    if scale == "wrong":
        raise InputError("no scale named 'wrong'; there is demo (params.yaml)")
    if scale == "bug":
        raise RuntimeError("ours")
    if scale == "diverged":
        raise FloatingPointError("step 3: giou is not finite; images a, b")
    if scale == "stop":
        raise KeyboardInterrupt
    if scale == "pipe":
        read, write = os.pipe()
        os.close(read)
        print("at work")
        os.write(write, b"x")
    print(repr((scale, seed, share)))


cli.run(main)
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    script = tmp_path_factory.mktemp("cli") / "script.py"
    script.write_text(PROGRAM)

    def run(*options):
        command = [sys.executable, str(script), *options]
        return subprocess.run(
            command, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False
        )

    return run


def test_options_are_the_signature(run):
    done = run("--scale", "demo", "--seed", "7")
    assert (done.returncode, done.stdout, done.stderr) == (0, "('demo', 7, 0.5)\n", "")
    assert run("--scale", "demo", "--seed", "7", "--share", "0.25").stdout == "('demo', 7, 0.25)\n"


def test_a_mistake_of_the_user_is_one_line(run):
    done = run("--scale", "wrong", "--seed", "7")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: no scale named 'wrong'; there is demo (params.yaml)\n"


def test_a_training_that_diverged_is_one_line(run):
    done = run("--scale", "diverged", "--seed", "7")
    assert (done.returncode, done.stderr) == (1, "error: step 3: giou is not finite; images a, b\n")


def test_a_bug_of_ours_has_its_traceback(run):
    done = run("--scale", "bug", "--seed", "7")
    assert done.returncode == 1 and "Traceback" in done.stderr and "RuntimeError: ours" in done.stderr


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("EFBIG", "error: cannot write 'a/b': File too large\n"),
        ("EROFS", "error: cannot write 'a/b': Read-only file system\n"),
        ("EACCES", "error: cannot read or write 'a/b': Permission denied\n"),
    ],
)
def test_what_the_system_does_not_let_be_written_is_one_line(monkeypatch, capsys, number, words):
    def main() -> None:
        print("said before")
        code = getattr(errno, number)
        raise OSError(code, os.strerror(code), "a/b")

    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(SystemExit) as caught:
        cli.run(main)
    out = capsys.readouterr()
    assert (caught.value.code, out.out, out.err) == (1, "said before\n", words)


def test_what_is_forbidden_without_a_file_keeps_its_traceback(monkeypatch):
    def main() -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(sys, "argv", ["program"])
    with pytest.raises(PermissionError):
        cli.run(main)


def test_an_interrupt_is_silent(run):
    done = run("--scale", "stop", "--seed", "7")
    assert (done.returncode, done.stderr) == (130, "")


def test_a_reader_who_has_seen_enough_is_no_error(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from proseco.base import cli\n\n\ndef main() -> None:\n    for number in range(100_000):\n"
        "        print(number)\n\n\ncli.run(main)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, str(script)],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout.readline() == "0\n"
    writer.stdout.close()
    assert (writer.wait(timeout=60), writer.stderr.read()) == (141, "")
    writer.stderr.close()


@pytest.mark.parametrize(
    ("where", "code", "words"),
    [
        ("&-", 0, ""),  # no standard output at all
        pytest.param(
            "/dev/full",
            1,
            "error: cannot write: No space left on device\n",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full"),
        ),
    ],
)
@pytest.mark.parametrize("lines", [1, 100_000])
def test_standard_output_that_takes_nothing(tmp_path, where, code, words, lines):
    script = tmp_path / "script.py"
    script.write_text(
        f"from proseco.base import cli\n\n\ndef main() -> None:\n    for number in range({lines}):\n"
        "        print(number)\n\n\ncli.run(main)\n"
    )
    shell = ["/bin/sh", "-c", f'"$0" "$1" >{where}', sys.executable, str(script)]
    done = subprocess.run(shell, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, words)


def test_another_pipe_that_breaks_is_no_quiet_end(run):
    done = run("--scale", "pipe", "--seed", "7")
    assert (done.returncode, done.stdout) == (1, "at work\n") and "BrokenPipeError" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--scale", "demo", "--seed", "7", "--sede", "8"), "unrecognized arguments: --sede"),
        (("--scale", "demo"), "required: --seed"),
        (("--scale", "demo", "--seed", "seven"), "argument --seed: invalid int value: 'seven'"),
    ],
)
def test_wrong_options(run, options, words):
    done = run(*options)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_help_is_the_first_line_of_the_docstring(run):
    done = run("--help")
    assert done.returncode == 0 and "Do a thing." in done.stdout and "More of it" not in done.stdout


def command(file: Path, name: str, *, count: int | None = None, loud: bool = False, out: Path = Path("out")) -> None:
    """Do one thing."""
    print(repr((str(file), name, count, loud, str(out))))


def other(*, times: int) -> None:
    """Do another."""
    print(times)


def explained(file: Path, *rest: Path, share: float = 0.5, to: str = "", wide: bool = False) -> None:
    """Do a thing.

    :param file: in ``.pth``.
    :param rest: more of them,
        as many as there are.
    :param share: 50 % or less.
    :param wide: or else
        narrow.
    :raises InputError: of none.
    """


def run_here(monkeypatch, capsys, *words, commands=None):
    monkeypatch.setattr(sys, "argv", ["program", *words])
    code = 0
    try:
        cli.run(commands or {"one": command, "more": {"deep": other, "wide": command}}, program="python -m x")
    except SystemExit as end:
        code = end.code
    done = capsys.readouterr()
    return code, done.out, done.err


def test_places_flags_and_optional_numbers(monkeypatch, capsys):
    assert run_here(monkeypatch, capsys, "a", "b", commands=command)[1] == "('a', 'b', None, False, 'out')\n"
    words = ("--loud", "a", "b", "--count", "3", "--out", "x/y")
    assert run_here(monkeypatch, capsys, *words, commands=command)[1] == "('a', 'b', 3, True, 'x/y')\n"
    code, _, err = run_here(monkeypatch, capsys, "a", "b", "--count", "three", commands=command)
    assert code == 2 and "argument --count: invalid int value: 'three'" in err
    code, _, err = run_here(monkeypatch, capsys, "a", commands=command)
    assert code == 2 and "required: name" in err


def test_help_has_the_docstring_s_words_for_each_argument_and_its_default(monkeypatch, capsys):
    code, out, _ = run_here(monkeypatch, capsys, "--help", commands=explained)
    words = " ".join(out.split())
    assert code == 0 and "file in .pth. rest more of them, as many as there are." in words
    assert "--share SHARE 50 % or less. (default: 0.5) --to TO --wide or else narrow." in words
    assert "raises" not in words


def test_the_last_place_takes_as_many_words_as_are_there(monkeypatch, capsys):
    def many(first: Path, *rest: int, sum_up: bool = False) -> None:
        print((str(first), rest, sum_up))

    assert run_here(monkeypatch, capsys, "a", "3", "4", "--sum-up", commands=many)[1] == "('a', (3, 4), True)\n"
    assert run_here(monkeypatch, capsys, "--sum-up", "a", "3", commands=many)[1] == "('a', (3,), True)\n"
    code, _, err = run_here(monkeypatch, capsys, "a", commands=many)
    assert code == 2 and "required: rest" in err


def test_commands_are_chosen_by_name(monkeypatch, capsys):
    assert run_here(monkeypatch, capsys, "more", "deep", "--times", "4") == (0, "4\n", "")
    assert run_here(monkeypatch, capsys, "one", "a", "b")[1] == "('a', 'b', None, False, 'out')\n"
    code, _, err = run_here(monkeypatch, capsys, "more", "depe")
    assert code == 2 and "invalid choice: 'depe'" in err and "usage: python -m x more" in err
    for words in ((), ("more",)):
        code, _, err = run_here(monkeypatch, capsys, *words)
        assert code == 2 and "required" in err
    code, out, _ = run_here(monkeypatch, capsys, "more", "--help")
    assert code == 0 and "Do another." in out and "Do one thing." in out

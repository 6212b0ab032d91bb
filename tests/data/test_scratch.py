import os
import re
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from proseco.base.errors import InputError
from proseco.data import scratch

HOLD = (
    "import sys; from pathlib import Path; from proseco.data import scratch\n"
    "with scratch.claimed(Path(sys.argv[1]), sys.argv[2]):\n    print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture
def hold(tmp_path):
    """Start processes that hold the folder."""
    with ExitStack() as stack:

        def start(part=""):
            command = [sys.executable, "-c", HOLD, tmp_path / "work", part]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout.readline() == b"held\n"
            return process

        yield start


def refused(tmp_path, part=""):
    words = r"is at work in '.*work'; wait for it, or end it"
    with pytest.raises(InputError, match=words) as caught, scratch.claimed(tmp_path / "work", part):
        pass
    return str(caught.value).split(" is at work")[0]


def test_a_second_writer_is_refused_and_a_dead_one_forgotten(tmp_path, hold):
    first = hold()
    who = f"process {first.pid} on {socket.gethostname()}"
    assert refused(tmp_path) == who and refused(tmp_path, "part-1-of-2") == who
    first.kill()
    first.wait()
    for part in ("", "part-1-of-2"):
        with scratch.claimed(tmp_path / "work", part):
            assert (tmp_path / "work").is_dir()


def test_parts_work_beside_each_other(tmp_path, hold):
    first = hold("part-1-of-3")
    with scratch.claimed(tmp_path / "work", "part-3-of-3"):
        where = f"on {socket.gethostname()}"
        assert refused(tmp_path, "part-1-of-3") == f"process {first.pid} {where} (part-1-of-3)"
        both = f"process {first.pid} {where} (part-1-of-3) and process {os.getpid()} {where} (part-3-of-3)"
        assert refused(tmp_path) == both


def test_a_finished_run_may_take_the_folder_with_it(tmp_path):
    with scratch.claimed(tmp_path / "work"):
        for path in (tmp_path / "work").iterdir():
            path.unlink()
        (tmp_path / "work").rmdir()
        with scratch.claimed(tmp_path / "work"):  # another one begins anew
            assert len(list((tmp_path / "work").iterdir())) == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    words = r"cannot make '.*file/work': Not a directory \(PROSECO_SCRATCH\)"
    with pytest.raises(InputError, match=words), scratch.claimed(tmp_path / "file/work"):
        pass


def test_the_name_follows_facts_code_and_versions(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text("a = 1\n")
    names = [scratch.fingerprint([tmp_path / "a.py"], seed=3, boxes=None)]
    assert re.fullmatch("[0-9a-f]{16}", names[0])
    assert scratch.fingerprint([tmp_path / "a.py"], boxes=None, seed=3) == names[0]
    names.append(scratch.fingerprint([tmp_path / "a.py"], seed=4, boxes=None))
    names.append(scratch.fingerprint([tmp_path / "a.py"], seed=3, boxes=0))
    (tmp_path / "a.py").write_text("a = 2\n")
    names.append(scratch.fingerprint([tmp_path / "a.py"], seed=3, boxes=None))
    monkeypatch.setattr(scratch.metadata, "version", lambda name: "9.9")
    names.append(scratch.fingerprint([tmp_path / "a.py"], seed=3, boxes=None))
    assert len(set(names)) == 5

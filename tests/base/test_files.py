import errno
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from proseco.base import files
from proseco.base.errors import InputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "new/deep/file.txt"
    with files.replacing(target) as part:
        part.write_text("all")
        assert not target.exists() and part.parent == target.parent
        assert re.fullmatch(r"\.file\.txt\..*\.part", part.name)  # what .dvcignore leaves out
    assert target.read_text() == "all" and names(target.parent) == ["file.txt"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_failure_leaves_what_was_there(tmp_path, kind):
    target = tmp_path / "out"
    if kind == "file":
        target.write_text("old")
    else:
        target.mkdir()
        (target / "old").write_text("old")
    with pytest.raises(RuntimeError, match="halfway"), files.replacing(target) as part:
        if kind == "file":
            part.write_text("ha")
        else:
            part.mkdir()
            (part / "half").write_text("ha")
        raise RuntimeError("halfway")
    assert names(tmp_path) == ["out"]
    assert (target if kind == "file" else target / "old").read_text() == "old"


def test_a_failure_before_anything_was_written(tmp_path):
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "out"):
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for run in ("first", "second"):
        with files.replacing(tmp_path / "out") as part:
            part.mkdir()
            (part / run).write_text(run)
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["second"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_number_of_a_killed_process_may_be_another_s_by_now(tmp_path, kind):
    left = tmp_path / f".out.{socket.gethostname()}.{os.getppid()}.part"
    left.write_text("half") if kind == "file" else (left / "deep").mkdir(parents=True)
    (tmp_path / ".out.lock.part").write_text(f"process {os.getppid()} on {socket.gethostname()}")
    files.write_text(tmp_path / "out", "all")
    assert names(tmp_path) == ["out"]


def test_what_others_call_a_part_is_left_alone(tmp_path):
    others = [f".out.{socket.gethostname()}.abc.part", f".out.{socket.gethostname()}.b.5.part", ".out.elsewhere.5.part"]
    for name in others:
        (tmp_path / name).touch()
    files.write_text(tmp_path / "out", "all")
    assert names(tmp_path) == sorted([*others, "out"])


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_where_the_file_system_has_no_locks_nothing_is_refused_or_removed(tmp_path, monkeypatch, number):
    def lockf(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.fcntl, "lockf", lockf)
    left = tmp_path / f".out.{socket.gethostname()}.{os.getppid()}.part"
    left.touch()  # perhaps of a living writer
    files.write_text(tmp_path / "out", "all")
    assert (tmp_path / "out").read_text() == "all" and names(tmp_path) == sorted([left.name, "out"])


def test_a_lock_whose_writer_finishes_just_then_is_taken_anew(tmp_path, monkeypatch):
    lock, taken = files.fcntl.lockf, []

    def late(file, kind):
        if not taken:
            (tmp_path / ".out.lock.part").unlink()
        taken.append(file)
        lock(file, kind)

    monkeypatch.setattr(files.fcntl, "lockf", late)
    with files.replacing(tmp_path / "out") as part:
        assert (tmp_path / ".out.lock.part").read_text() == f"process {os.getpid()} on {socket.gethostname()}"
        part.touch()
    assert len(taken) == 2 and names(tmp_path) == ["out"]


def test_a_link_to_a_folder_is_replaced_and_the_folder_left_alone(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/kept").write_text("kept")
    (tmp_path / "out").symlink_to(tmp_path / "real")
    files.write_text(tmp_path / "out", "text")
    assert (tmp_path / "out").read_text() == "text" and not (tmp_path / "out").is_symlink()
    assert (tmp_path / "real/kept").read_text() == "kept"


def test_a_device_or_a_pipe_stays_what_it_is(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"pipe' is neither a file nor a folder; it is not replaced"):
        files.write_text(tmp_path / "pipe", "text")
    assert (tmp_path / "pipe").is_fifo() and names(tmp_path) == ["pipe"]


def test_a_path_through_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"^cannot write '.*file/a/b': "):
        files.write_text(tmp_path / "file" / "a" / "b", "text")


def test_a_file_does_not_take_the_place_of_a_folder(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/kept").write_text("kept")
    monkeypatch.chdir(tmp_path / "mine")
    for target in (tmp_path / "mine", "."):
        with pytest.raises(InputError, match="' is a folder; expected the name of a file"):
            files.write_text(target, "text")
    assert names(tmp_path) == ["mine"] and names(tmp_path / "mine") == ["kept"]


def test_json_bytes_depend_on_the_value_alone(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": 1, "a": {"d": [1.5, None], "c": "é"}})
    files.write_json(tmp_path / "b.json", {"a": {"c": "é", "d": [1.5, None]}, "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert (tmp_path / "a.json").read_bytes().endswith(b"}\n") and b"\r" not in (tmp_path / "a.json").read_bytes()
    assert files.read_json(tmp_path / "a.json") == {"b": 1, "a": {"d": [1.5, None], "c": "é"}}


def test_json_without_numbers_that_json_has_not(tmp_path):
    files.write_json(tmp_path / "a.json", {"AP": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "a.json", {"AP": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"AP": 1.0} and names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"{'a': 1}", b"[" * 200_000])
def test_unreadable_json_is_named(tmp_path, content):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"bad\.json' is not readable JSON: ") as caught:
        files.read_json(path)
    assert "\n" not in str(caught.value)


def test_csv_has_an_empty_field_for_what_a_row_lacks(tmp_path):
    files.write_csv(tmp_path / "a.csv", ["x", "y"], [{"x": 1, "y": None}, {"y": "b,c"}])
    assert (tmp_path / "a.csv").read_bytes() == b'x,y\n1,\n,"b,c"\n'


def test_rows_are_appended_below_one_header(tmp_path):
    path = tmp_path / "a.csv"
    path.touch()
    for row in ({"x": 1, "y": 2}, {"x": 3, "y": 4}):
        files.append_csv(path, row)
    assert path.read_bytes() == b"x,y\r\n1,2\r\n3,4\r\n"


def test_missing_json_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no file '.*absent\.json'"):
        files.read_json(tmp_path / "absent.json")
    with pytest.raises(InputError, match="is not readable JSON"):
        files.read_json(tmp_path)


def test_files_are_listed_by_path_whatever_the_order_of_the_file_system(tmp_path):
    for name in ("b/2.JPG", "a/x/1.jpeg", "a/0.png", "c.jpg", "a/notes.txt", "b/.hidden.jpg", "a.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * len(name))
    (tmp_path / "linked").symlink_to(tmp_path / "b")
    listing = files.list_files(tmp_path, (".jpg", ".jpeg", ".png"))
    expected = ["a.jpg", "a/0.png", "a/x/1.jpeg", "b/2.JPG", "c.jpg", "linked/2.JPG"]
    assert listing == [(name, len(name.replace("linked", "b"))) for name in expected]


def test_what_is_hidden_is_not_listed(tmp_path):
    for name in ("train/.thumbnails/a.jpg", "train/.b.jpg", "train/c.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert files.list_files(tmp_path, (".jpg",)) == [("train/c.jpg", 1)]


def test_what_might_never_end_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    os.mkfifo(tmp_path / "train/a.jpg")
    with pytest.raises(InputError, match=r"'.*train/a\.jpg' is no file of bytes, but a pipe or a device; remove it$"):
        files.list_files(tmp_path, (".jpg",))


def test_links_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "root/train/n1").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.jpg").write_bytes(b"x")
    (tmp_path / "root/train/n2").symlink_to(tmp_path / "elsewhere")
    assert files.list_files(tmp_path / "root", (".jpg",)) == [("train/n2/a.jpg", 1)]
    (tmp_path / "root/train/n1/up").symlink_to("..")  # found some forty times over, before
    with pytest.raises(InputError, match=r"'.*train/n1/up' is a link to a folder that it lies in; remove it$"):
        files.list_files(tmp_path / "root", (".jpg",))


def test_links_between_folders_that_make_a_circle_together(tmp_path):
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.jpg").write_bytes(b"x")
        (tmp_path / name / "next").symlink_to(f"../{other}")
    with pytest.raises(InputError, match=r"/[abc]/next/next/next' is a link to a folder that it lies in; remove it$"):
        files.list_files(tmp_path, (".jpg",))
    (tmp_path / "c/next").unlink()
    found = [name for name, _ in files.list_files(tmp_path, (".jpg",))]
    assert found == ["a/a.jpg", "a/next/b.jpg", "a/next/next/c.jpg", "b/b.jpg", "b/next/c.jpg", "c/c.jpg"]


def test_the_digest_of_a_listing_knows_names_and_sizes():
    digests = {
        files.listing_digest(listing)
        for listing in ([("a", 1), ("b", 2)], [("a", 1), ("b", 3)], [("a", 1), ("c", 2)], [("a", 1)], [])
    }
    assert len(digests) == 5 and all(re.fullmatch("[0-9a-f]{32}", digest) for digest in digests)


def test_digests_are_those_of_b2sum(tmp_path):
    (tmp_path / "a").write_bytes(b"proseco")
    assert files.digest(tmp_path / "a") == files.text_digest("proseco") == "c92a090701ce4ab9840a2d10aaba7ea0"


def test_leftovers_of_a_kill_are_removed_and_a_living_writer_is_respected(tmp_path):
    code = "import sys; from proseco.base import files\nwith files.replacing(sys.argv[1]) as part:\n"
    code += "    part.mkdir(); (part / 'half').touch(); print('writing', flush=True); sys.stdin.read()"
    target = tmp_path / "out"
    writer = subprocess.Popen([sys.executable, "-c", code, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"writing\n"
        who = f"^process {writer.pid} on {socket.gethostname()} is writing '.*out'; wait for it, or end it$"
        with pytest.raises(InputError, match=who), files.replacing(target):
            pass
    finally:
        writer.kill()
        writer.wait()
    assert len(names(tmp_path)) == 2  # what the kill left
    with files.replacing(target) as part:
        part.mkdir()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("across", [False, True])
def test_a_folder_is_moved_in_place_of_another(tmp_path, monkeypatch, across):
    for name in ("source", "deep/target"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / name[0]).write_text(name)
    if across:

        def rename(source, target):
            raise OSError(errno.EXDEV, "Invalid cross-device link")

        monkeypatch.setattr(os, "rename", rename)
    files.move(tmp_path / "source", tmp_path / "deep/target")
    assert names(tmp_path) == ["deep"] and names(tmp_path / "deep") == ["target"]
    assert names(tmp_path / "deep/target") == ["s"] and (tmp_path / "deep/target/s").read_text() == "source"


def test_a_kill_while_moving_to_another_file_system_loses_nothing(tmp_path, monkeypatch):
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a").write_text("a")
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "x")))
    monkeypatch.setattr(files.shutil, "copyfile", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        files.move(tmp_path / "source", tmp_path / "target")
    assert names(tmp_path) == ["source"] and names(tmp_path / "source") == ["a"]


def test_what_the_system_says_against_writing(tmp_path):
    words = r"^cannot write '.*/none/a': No such file or directory; look$"
    with pytest.raises(InputError, match=words), files.explaining_write_errors(tmp_path / "none/a", 5, "look"):
        (tmp_path / "none/a").write_text("a")
    words = r"^cannot write '.*/a': No space left on device \(it needs about 3\.0 MiB, \d+\.\d MiB are free\); look$"
    with pytest.raises(InputError, match=words), files.explaining_write_errors(tmp_path / "a", 3 * 2**20, "look"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_digest_of_several_files_knows_their_order(tmp_path):
    for name in "ab":
        (tmp_path / name).write_text(name)
    one, other = (files.digests(tmp_path / name for name in order) for order in ("ab", "ba"))
    assert one != other and one == files.digests([str(tmp_path / "a"), tmp_path / "b"])


def test_a_full_disk_is_said_of_the_file_that_was_to_be_written(tmp_path, monkeypatch):
    """Of several disks it is to be known which: `write` does not say."""
    free = {"full": 5 * 2**20, "other": 5 * 2**30}
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[Path(path).name]))

    def blamed(*filename):
        full, other = tmp_path / "full/checkpoint", tmp_path / "other/results"
        with pytest.raises(OSError, match="No space") as caught, files.replacing(full), files.replacing(other):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *filename)
        return caught.value.filename

    assert blamed() == str(tmp_path / "full/checkpoint") and blamed("/elsewhere") == "/elsewhere"

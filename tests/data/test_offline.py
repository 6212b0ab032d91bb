"""Shards made by many, in parts, and across kills: always the bytes of one undisturbed run."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from proseco.base.errors import InputError
from proseco.data import offline, parallel, shards
from tests.making import listed, tree, write

ROOT = Path(__file__).resolve().parents[2]
COUNT, PER_SHARD = 24, 3
# What a stage does, slowly. The proposals are those of tests.making.
DRIVER = """
import sys, time
from pathlib import Path
from proseco.base import cli
from proseco.data import offline, shards
from tests.making import EVERYTHING, PROPOSE, listed

def slow(image, *, seed):
    time.sleep(PAUSE)
    return PROPOSE(image, seed=seed)

def main(*, images: str, out: str, part: str = "") -> None:
    found = offline.write(
        Path(out), Path(images), listed(Path(images)), shards.Recipe(slow, EVERYTHING, 3, 16), work=Path(out + ".work"),
        samples_per_shard=3, shard_bytes=None, max_skipped=0.0, part=offline.parse_part(part),
    )
    print(shards.describe(found) if found else "part done")

if __name__ == "__main__":
    cli.run(main)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for i in range(COUNT):
        pixels = np.random.default_rng(i).integers(0, 256, (20 + i, 57 - i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{i:02}.{'png' if i % 5 == 3 else 'jpg'}")
    return root


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    write(out, folder, samples_per_shard=PER_SHARD)
    return tree(out)


def start(folder, out, *words, pause=0.0, workers=2, **options):
    script = out.parent / "driver.py"
    script.write_text(DRIVER.replace("PAUSE", str(pause)))
    command = [sys.executable, script, "--images", folder, "--out", out, *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PROSECO_WORKERS": str(workers)}
    return subprocess.Popen(command, env=environment, stdout=-1, stderr=-1, text=True, **options)


def finish(process):
    """stdout, and the lines of errors on stderr; the bar is written with carriage returns."""
    stdout, stderr = process.communicate(timeout=120)
    assert "Traceback" not in stderr, stderr
    return stdout, [line for line in stderr.replace("\r", "\n").splitlines() if line.startswith("error")]


def finished(out):
    return sorted(Path(f"{out}.work/shards").glob("*.json"))


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_the_stage_killed_again_and_again(folder, undisturbed, tmp_path):
    out, made = tmp_path / "out", 0
    for _ in range(2):
        process = start(folder, out, pause=0.12)
        wait_for(lambda: len(finished(out)) > made)  # noqa: B023, called here
        process.kill()
        process.communicate(timeout=30)
        assert not out.exists() and made < len(finished(out)) < COUNT // PER_SHARD
        made = len(finished(out))
    before = {path.name: path.stat().st_mtime_ns for path in finished(out)}
    process = start(folder, out, pause=0.05)
    wait_for(lambda: len(finished(out)) > made or out.exists())
    if not out.exists():
        after = {path.name: path.stat().st_mtime_ns for path in finished(out)}
        assert {name: after[name] for name in before} == before, "a finished shard was made again"
    stdout, errors = finish(process)
    assert stdout.startswith(f"{COUNT} images") and errors == []
    assert tree(out) == undisturbed and not Path(f"{out}.work").exists()


def test_workers_end_with_the_stage_that_was_killed(folder, tmp_path):
    """Busy ones and idle ones: they hold the pipe of the stage's errors, which else would stay open for minutes."""
    process = start(folder, tmp_path / "out", pause=0.2)
    parts = tmp_path / "out.work/parts"
    workers = wait_for(lambda: {int(p.name.split(".")[-2]) for p in parts.rglob("*.tar")} if parts.is_dir() else ())
    process.kill()
    process.communicate(timeout=10)
    wait_for(lambda: not [pid for pid in workers if Path(f"/proc/{pid}").exists()])


def test_a_worker_killed(folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    process = start(folder, out, pause=0.05)
    wait_for(lambda: finished(out))
    parts = Path(f"{out}.work/parts")
    victim = wait_for(lambda: [int(p.name.split(".")[-2]) for p in parts.rglob("*.tar")])[0]
    os.kill(victim, signal.SIGKILL)
    _, errors = finish(process)
    assert process.returncode == 1 and len(errors) == 1
    assert "a worker process was ended" in errors[0] and "finished shards are kept in" in errors[0]
    assert "run the same command again" in errors[0] and not out.exists() and finished(out)
    assert finish(start(folder, out))[1] == [] and tree(out) == undisturbed


def test_two_at_once(folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    first = start(folder, out, pause=0.1)
    wait_for(lambda: finished(out))
    second = start(folder, out)
    _, errors = finish(second)
    assert second.returncode == 1 and f"process {first.pid} on " in errors[0] and "wait for it" in errors[0]
    assert finish(first)[1] == [] and tree(out) == undisturbed


def test_parts_beside_each_other_and_one_that_collects(folder, undisturbed, tmp_path):
    out = tmp_path / "out"
    parts = [start(folder, out, "--part", f"{k}/3", workers=1, pause=0.02) for k in (1, 3)]
    assert [finish(part) for part in parts] == [("part done\n", [])] * 2
    assert [path.stem[-1] for path in finished(out)] == ["0", "2", "3", "5", "6"]
    before = {path: path.stat().st_mtime_ns for path in finished(out)}
    assert finish(start(folder, out, "--part", "1/3"))[1] == []  # has nothing to do
    assert {path: path.stat().st_mtime_ns for path in finished(out)} == before and not out.exists()
    assert finish(start(folder, out, workers=1))[0].startswith(f"{COUNT} images")  # makes those of part 2
    assert tree(out) == undisturbed


def test_parts_of_another_number_leave_each_other_alone(folder, undisturbed, tmp_path):
    """As of an array that was handed in anew while tasks of the former still run."""
    out = tmp_path / "out"
    first = start(folder, out, "--part", "1/2", workers=1, pause=0.1)
    begun = wait_for(lambda: list(Path(f"{out}.work/parts").rglob("*.tar")))
    second = start(folder, out, "--part", "1/4", workers=1)
    assert begun and [finish(part) for part in (second, first)] == [("part done\n", [])] * 2
    assert finish(start(folder, out, workers=1))[0].startswith(f"{COUNT} images")
    assert tree(out) == undisturbed


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/3/2", "-1/3", "a/b", "1/0", "1.5/3", "²/3"])
def test_what_is_no_part(text):
    with pytest.raises(InputError, match=r"--part is .*; it must be k/n"):
        offline.parse_part(text)


def test_parts():
    assert [offline.parse_part(text) for text in ("", "1/1", "3/16")] == [None, (1, 1), (3, 16)]


def disk_full(line, out, name):
    assert "cannot write" in line and name in line and "it needs about" in line and "MiB are free" in line
    assert "make room and run the same command again" in line
    whole = {path.stem for path in finished(out)}
    assert {path.stem for path in Path(f"{out}.work/shards").glob("*.tar")} == whole
    assert all(shards.finished(Path(f"{out}.work/shards"), stem) for stem in whole)
    assert not out.exists() and not [p for p in Path(f"{out}.work/parts").rglob("*") if p.is_file()]


def test_a_full_disk(folder, undisturbed, tmp_path):
    """A file-size limit that the last, largest shard exceeds."""
    size = max(len(data) for name, data in undisturbed.items() if name.endswith(".tar"))
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, size - 1))  # noqa: E731
    out = tmp_path / "out"
    process = start(folder, out, workers=1, preexec_fn=limit)
    _, errors = finish(process)
    assert process.returncode == 1 and len(errors) == 1
    disk_full(errors[0], out, "shard-")
    assert finish(start(folder, out))[1] == [] and tree(out) == undisturbed


def test_a_full_file_system(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", disk]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        (tmp_path / "images").mkdir()
        for i in range(10):
            pixels = np.random.default_rng(i).integers(0, 256, (100, 120, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"images/{i}.png")
        out = disk / "out"
        with pytest.raises(InputError, match=r"No space left on device \(it needs about 0\.\d MiB, ") as caught:
            write(out, tmp_path / "images", samples_per_shard=2)
        disk_full(str(caught.value), out, "shard-")
        assert 0 < len(finished(out)) < 5
        subprocess.run(["mount", "-o", "remount,size=2m", disk], check=True)
        write(out, tmp_path / "images", samples_per_shard=2)
        write(tmp_path / "elsewhere", tmp_path / "images", samples_per_shard=2, work=disk / "work")  # moves across
        assert tree(out) == tree(tmp_path / "elsewhere") and not (disk / "work").exists()
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_folder_that_changed_since_it_was_listed(folder, tmp_path):
    found = listed(folder)
    found[7] = found[7]._replace(size=found[7].size + 1)
    for workers in (1, 2):
        with pytest.raises(InputError, match=r"07\.jpg' has \d+ bytes, .*`dvc repro -f inventory@<scale>`"):
            write(tmp_path / "out", folder, found, samples_per_shard=PER_SHARD, workers=workers)
    found[7] = found[7]._replace(path="gone.jpg")
    with pytest.raises(InputError, match=r"cannot read '.*gone\.jpg', which stage inventory listed"):
        write(tmp_path / "out", folder, found, samples_per_shard=PER_SHARD)


def test_too_many_left_out_costs_nothing_that_was_made(folder, undisturbed, tmp_path):
    """A larger share is another judgement on the same work; it is found early, before the other shards are made."""
    out, calls = tmp_path / "out", []

    def counting(image, *, seed):
        calls.append(seed)
        return np.zeros((0, 4), np.float32)

    with pytest.raises(InputError, match=r"1 of 24 images cannot be used, 4\.2%; .*\.jpg \(smaller than 21 pixels\)"):
        write(out, folder, propose=counting, min_side=21, max_skipped=0.04, samples_per_shard=PER_SHARD)
    assert len(calls) == 2  # of 23
    summary = write(out, folder, propose=counting, min_side=21, max_skipped=0.06, samples_per_shard=PER_SHARD)
    assert len(calls) == 23 and summary["samples"] == 23
    assert json.loads((out / "summary.json").read_text())["skipped"][0]["file"] == "00.jpg"


def test_images_that_were_mended_are_looked_at_again(folder, undisturbed, tmp_path):
    """A copy that was damaged and its original have one size, so it is the same work that goes on."""
    images = tmp_path / "images"
    shutil.copytree(folder, images)
    whole = (images / "08.png").read_bytes()
    (images / "08.png").write_bytes(bytes(len(whole)))
    for _ in range(2):
        with pytest.raises(InputError, match=r"1 of 24 images cannot be used, .*: 08\.png \(cannot be decoded\)"):
            write(tmp_path / "out", images, max_skipped=0.0, samples_per_shard=PER_SHARD)
    (images / "08.png").write_bytes(whole)
    write(tmp_path / "out", images, max_skipped=0.0, samples_per_shard=PER_SHARD)
    assert tree(tmp_path / "out") == undisturbed


def test_a_dask_cluster(folder, undisturbed, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PROSECO_BACKEND", "dask")
    options = {"processes": True, "dashboard_address": None, "host": "127.0.0.1", "silence_logs": 50}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, **options) as cluster:
        monkeypatch.setenv("PROSECO_CLUSTER", cluster.scheduler_address)
        write(tmp_path / "out", folder, samples_per_shard=PER_SHARD)
        assert tree(tmp_path / "out") == undisturbed
        changed = [file._replace(size=file.size + 1) for file in listed(folder)]
        with pytest.raises(InputError, match="when stage inventory listed it"):
            write(tmp_path / "again", folder, changed, samples_per_shard=PER_SHARD)
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, **options) as cluster:
        monkeypatch.setenv("PROSECO_CLUSTER", cluster.scheduler_address)
        with pytest.raises(InputError, match=r"with 1 workers of \[2\] threads; start workers of one thread each"):
            write(tmp_path / "again", folder)


def test_clusters_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("PROSECO_BACKEND", "dask")
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        monkeypatch.setenv("PROSECO_CLUSTER", address)
        monkeypatch.setattr(parallel, "_PATIENCE", 0.5)
        with pytest.raises(InputError, match=f"PROSECO_CLUSTER is '{address}': no Dask scheduler answers there"):
            list(parallel.results([], tmp_path))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"not installed: pip install distributed"):
        list(parallel.results([], tmp_path))
    monkeypatch.setenv("PROSECO_BACKEND", "ray")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"not installed: pip install ray"):
        list(parallel.results([], tmp_path))

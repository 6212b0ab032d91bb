"""A training that ends halfway and is taken up again: equal bits, or a refusal to take up what is not whole."""

import csv
import math
import os
import resource
import signal
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

import pytest
import torch

from proseco.base.errors import InputError, PeerLost
from proseco.runs.album import Album
from proseco.runs.finetuning import _Best
from proseco.training import distributed, failures, torch_files
from proseco.training.devices import prepare
from proseco.training.schedules import Finetuning
from proseco.training.snapshots import Snapshots
from tests.training import shared

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


class Plain:
    """Of a batch, its keys and its frame."""

    def __init__(self, keys, frame):
        self.keys, self.mask = keys, torch.zeros(len(keys), *frame)

    def __len__(self):
        return len(self.keys)

    def at_a_time(self, limit):
        return min(limit, len(self))


class Killed(Exception):
    """What stands for a kill: nothing catches it."""


def ending(method, step, error=Killed):
    """The method, whose losses raise at a step, counted from this run's first."""
    losses, calls = method.losses, []
    method.seen = calls

    def wrapped(batch):
        calls.append(batch)
        if len(calls) - 1 == step:
            if error is not None:
                raise error
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(batch)

    method.losses = wrapped
    return method


def run(made, folder, *, snapshots=None, every=3, moments=(0, 4, 7, 10), drawn=False, **options):
    """With an album that looks at four moments; drawing them takes longer than all else."""
    snapshots = snapshots or Snapshots(folder, every)
    source = shared.Source()
    made.transform = shared.example
    path = folder / "boxes.png" if drawn else None
    album = Album(made, source, path, seed=1, device=shared.CPU, images=2)
    at_step = dict.fromkeys(moments, album.take)
    found = shared.train(
        made,
        folder / "log.csv",
        source=source,
        at_step=at_step,
        snapshots=snapshots,
        extra_state={"album": album},
        **options,
    )
    return found | {"album": album.state_dict(), "picture": path.read_bytes() if path else None}


def folders(tmp_path, *names):
    for name in names:
        (tmp_path / name).mkdir()
        yield tmp_path / name


def equal(one, two):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(equal(a, b) for a, b in zip(one, two, strict=True))
    return one == two


@pytest.mark.parametrize("ends", [(2,), (3,), (5, 0, 3), (9, 0)])
def test_a_pretraining_goes_on_in_equal_bits(tmp_path, ends):
    """Killed before the first state, at one, in between, at the last step, and again and again. With dropout."""
    undisturbed, killed = folders(tmp_path, "undisturbed", "killed")
    drawn = len(ends) == 3
    truth = run(shared.pretraining(dropout=0.2), undisturbed, drawn=drawn)
    for step in ends:
        with pytest.raises(Killed):
            run(ending(shared.pretraining(dropout=0.2), step), killed, drawn=drawn)
    found = run(shared.pretraining(dropout=0.2), killed, drawn=drawn)
    assert equal(truth, found)
    assert (undisturbed / "log.csv").read_bytes() == (killed / "log.csv").read_bytes()
    assert [step for step, _ in found["album"]["taken"]] == [0, 4, 7, 10]


ONE_VIEW = shared.partial(shared.example, views=1)


def finetune(folder, plan, at, kill=None):
    """With scripted AP.

    :param at: step -> AP after it; ``kill``: step at which this run ends.
    """
    made = shared.finetuning()
    course = shared.partial(plan.course, steps=shared.STEPS)
    validated = []

    def validate(step):
        validated.append(step)
        return best.validate(step)

    def score(found):
        return {"AP": at[validated[-1]]}

    best = _Best(made.student, lambda: torch.rand(2, 7).double().numpy(), score, title="test", course=course)

    made = made if kill is None else ending(made, kill)
    found = shared.train(
        made,
        folder / "log.csv",
        at_step=dict.fromkeys(at, validate),
        factor=lambda step: plan.factor(step, shared.STEPS, drop=best.drop),
        snapshots=Snapshots(folder, 4),
        extra_state={"best": best},
        transform=ONE_VIEW,
    )
    state = best.state_dict()
    chosen = {key: state[key] for key in ("score", "step", "history", "weights")}
    return found | chosen | {"drop": best.drop}, validated


def test_a_finetuning_goes_on_with_what_it_chose(tmp_path):
    undisturbed, killed = folders(tmp_path, "undisturbed", "killed")
    plan, at = Finetuning(batch=5, lr=1e-3, steps=10, validations=3), {3: 3.0, 6: 5.0, 10: 4.0}
    truth, _ = finetune(undisturbed, plan, at)
    assert truth["step"] == 6 and truth["drop"] == 8
    with pytest.raises(Killed):
        finetune(killed, plan, at, kill=7)
    found, validated = finetune(killed, plan, at)
    assert equal(truth, found)
    assert validated == [6, 10]  # the state is of step 6, before the validation, which is done again


def test_what_is_done_at_a_step_has_a_state_before(tmp_path):
    """A kill in a validation, or in the time that is left after SIGTERM, costs the validation and no step."""
    undisturbed, killed = folders(tmp_path, "undisturbed", "killed")
    seen = []

    def pretrain(folder, look):
        options = {"at_step": dict.fromkeys((0, 4, 7), look), "snapshots": Snapshots(folder, 100)}
        return shared.train(shared.pretraining(), folder / "log.csv", **options)

    def end(step):
        seen.append((step, [path.name[:14] for path in killed.glob("step-*.pt")]))
        if step == 4:
            raise Killed

    truth = pretrain(undisturbed, lambda step: None)
    with pytest.raises(Killed):
        pretrain(killed, end)
    assert seen == [(0, []), (4, ["step-000000004"])]
    assert equal(truth, pretrain(killed, seen.append))
    assert seen[2:] == [4, 7]


@pytest.mark.parametrize(("kill", "again"), [(3, [3, 4, 5, 6, 7, 8]), (5, [5, 6, 7, 8]), (6, [6, 7, 8])])
def test_a_finetuning_goes_on_in_the_middle_of_its_patience(tmp_path, kill, again):
    """No new best after step 3, so the rate drops after step 5; none after step 6, so the end comes after step 8."""
    undisturbed, killed = folders(tmp_path, "undisturbed", "killed")
    plan = Finetuning(batch=5, lr=1e-3, steps=10, validations=10, patience=2)
    at = dict(enumerate([1.0, 2.0, 3.0, 3.0, 2.0, 4.0, 4.0, 1.0, 9.0, 9.0], 1))
    truth, validated = finetune(undisturbed, plan, at)
    assert validated == [1, 2, 3, 4, 5, 6, 7, 8] and truth["step"] == 6 and truth["drop"] == 5
    assert [row["lr"] for row in truth["rows"]] == pytest.approx([1e-3] * 5 + [1e-4] * 3)
    with pytest.raises(Killed):
        finetune(killed, plan, at, kill=kill)
    found, validated = finetune(killed, plan, at)
    assert equal(truth, found) and validated == again
    assert (undisturbed / "log.csv").read_bytes() == (killed / "log.csv").read_bytes()
    found, validated = finetune(killed, plan, at)  # killed again, after the end
    assert equal(truth, found) and validated == []


def test_a_validation_is_a_line(tmp_path, capsys):
    plan = Finetuning(batch=5, lr=1e-3, steps=10, validations=10, patience=1)
    finetune(tmp_path, plan, {1: 1.25, 2: 0.5, 3: 3.0, 4: 2.0})
    assert [line for line in capsys.readouterr().out.splitlines() if line] == [
        "test: step 1: validation AP 1.25, the best so far",
        "test: step 2: validation AP 0.50, best 1.25 at step 1; the learning rate drops",
        "test: step 3: validation AP 3.00, the best so far",
        "test: step 4: validation AP 2.00, best 3.00 at step 3; AP has stopped rising",
    ]


def test_the_last_two_states_are_kept(tmp_path):
    run(shared.pretraining(), tmp_path)
    names = sorted(path.name[:14] for path in tmp_path.glob("*.pt"))
    assert names == ["step-000000009", "step-000000010"]


def test_of_a_step_the_last_state_is_kept(tmp_path):
    snapshots = Snapshots(tmp_path, 1)
    for step, number in ((1, 0), (2, 1), (2, 2), (2, 3)):
        snapshots.save(step, {"number": number})
    assert snapshots.load() == {"number": 3}
    assert [path.name[:14] for path in sorted(tmp_path.iterdir())] == ["step-000000001", "step-000000002"]


def test_a_state_that_another_machine_has_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "from_first_process", lambda chosen: "step-000000004-ab.pt")
    with pytest.raises(InputError, match=r"no file '.*step-000000004-ab\.pt', where the first process has its state"):
        Snapshots(tmp_path, 1).load()


@contextmanager
def at_most(size):
    """Files of this process may not grow beyond that many bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_state_that_does_not_fit_is_one_line_and_leaves_no_part(tmp_path):
    snapshots, state = Snapshots(tmp_path, 1), {"weights": torch.rand(100_000)}
    snapshots.save(1, {"number": 1})
    words = rf"^cannot write the state of the training to '{tmp_path}': File too large \(PROSECO_SCRATCH\)$"
    with at_most(100_000), pytest.raises(InputError, match=words):
        snapshots.save(2, state)
    assert [path.name[:14] for path in tmp_path.iterdir()] == ["step-000000001"] and snapshots.load() == {"number": 1}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="ours"):  # not of the disk
        patch.setattr(torch, "save", mock.Mock(side_effect=RuntimeError("ours")))
        torch_files.save(state, tmp_path / "a.pt")


def test_a_batch_that_cannot_be_kept_does_not_hide_the_failure(tmp_path):
    results, kept = folders(tmp_path, "results", "kept")
    keep = Snapshots.keep

    def full(self, name, content):
        with at_most(1000):
            return keep(self, name, content)

    made, _ = failing(2, lambda terms: terms | {"coord": terms["coord"] * math.nan})
    words = r"^step 2: coord is not finite; images .* \(the batch cannot be kept: File too large\)$"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(FloatingPointError, match=words):
        patch.setattr(Snapshots, "keep", full)
        run(made, results, snapshots=Snapshots(kept, 30))


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize("harm", [damage, cut])
def test_a_damaged_state_is_passed_over_for_the_one_before(tmp_path, capsys, harm):
    undisturbed, killed = folders(tmp_path, "undisturbed", "killed")
    truth = run(shared.pretraining(), undisturbed)
    with pytest.raises(Killed):
        run(ending(shared.pretraining(), 8), killed)
    harm(max(killed.glob("step-000000007-*.pt")))
    (killed / ".snapshot.part").write_bytes(b"half")  # as of a kill while it was written
    capsys.readouterr()
    assert Snapshots(killed, 3).load()["step"] == 6
    assert "warning: the state of step 7 is damaged" in capsys.readouterr().err
    assert equal(truth, run(shared.pretraining(), killed))


def test_without_a_whole_state_it_begins_anew(tmp_path):
    snapshots = Snapshots(tmp_path, 1)
    snapshots.save(1, {"step": 1})
    cut(max(tmp_path.glob("step-*.pt")))
    assert snapshots.load() is None


def test_a_state_of_another_precision_is_refused(tmp_path):
    """``auto`` is bfloat16 where there is a GPU, and float32 where torch sees none any more."""
    with pytest.raises(Killed):
        run(ending(shared.pretraining(), 7), tmp_path)
    state = Snapshots(tmp_path, 3).load()
    Snapshots(tmp_path, 3).save(state["step"], state | {"precision": "torch.bfloat16"})
    words = r"the first 7 steps .* in torch\.bfloat16, and here, on the device cpu, it would go on in torch\.float32"
    with pytest.raises(InputError, match=words):
        run(shared.pretraining(), tmp_path)


def test_sigterm_ends_it_after_the_step_with_a_state(tmp_path):
    undisturbed, ended = folders(tmp_path, "undisturbed", "ended")
    truth = run(shared.pretraining(), undisturbed)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(InputError, match="ended by SIGTERM after step 5 of 10; the same command goes on from there"):
        run(ending(shared.pretraining(), 4, error=None), ended, every=100)
    assert signal.getsignal(signal.SIGTERM) == before
    assert max(path.name[:14] for path in ended.glob("*.pt")) == "step-000000005"
    assert equal(truth, run(shared.pretraining(), ended, every=100))


def failing(step, bad):
    """A pretraining whose terms at a step are what ``bad`` makes of them; and the batches that it has seen."""
    made = shared.pretraining()
    losses, calls = made.losses, []

    def wrapped(batch):
        calls.append(batch)
        terms, figures = losses(batch)
        return (bad(terms) if len(calls) == step + 1 else terms), figures

    made.losses = wrapped
    return made, calls


def test_the_batch_of_a_failure_is_kept_and_the_log(tmp_path):
    """The log to the last whole step, in the middle of an interval; the folder that it lies in goes with the error."""
    whole, results, kept = folders(tmp_path, "whole", "results", "kept")
    truth = run(shared.pretraining(), whole)["rows"]
    snapshots = Snapshots(kept, 100)
    with pytest.raises(FloatingPointError, match=r"step 2: a cost of image image1 .* kept in") as caught:
        made = ending(shared.pretraining(), 2, FloatingPointError("a cost of image image1 is not finite"))
        run(made, results, snapshots=snapshots)
    made, calls = failing(2, lambda terms: terms | {"giou": terms["giou"] / 0})
    with pytest.raises(
        FloatingPointError, match=r"step 2: giou is not finite; images image\d, .* \(the batch is kept in"
    ):
        run(made, results, snapshots=snapshots, changes={"log_every": 4})
    path = kept / "not-finite-step-2-process-0.pt"
    assert f"(the batch is kept in {path}, the log in {kept / 'log.csv'})" in str(caught.value)
    content = torch.load(path, weights_only=True)
    assert content["keys"] == calls[2].keys and torch.equal(content["views"], calls[2].views)
    assert equal(content["boxes"], calls[2].boxes)
    with open(kept / "log.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["step"] == "2"
    assert float(row["loss"]) == pytest.approx((truth[0]["loss"] + truth[1]["loss"]) / 2, rel=1e-5)


def test_full_memory_is_one_line_that_says_how_to_go_on(tmp_path):
    whole, results, kept = folders(tmp_path, "whole", "results", "kept")
    truth = run(shared.pretraining(), whole)
    made = ending(shared.pretraining(), 4, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."))
    with pytest.raises(InputError) as caught:
        run(made, results, snapshots=Snapshots(kept, 3))
    batch = made.seen[-1]
    height, width = batch.mask.shape[1:]
    assert str(caught.value) == (
        f"step 4: a batch of {len(batch)} images of {width} x {height} is too large for the GPU's memory (CUDA out of "
        f"memory); PROSECO_MICRO_PIXELS={len(batch) * height * width // 2} divides it, or more processes share it "
        "(PROSECO_NPROC); either goes on from the last state"
    )
    assert equal(run(shared.pretraining(), results, snapshots=Snapshots(kept, 3))["weights"], truth["weights"])


def test_advice_against_full_memory_is_what_can_help():
    one, several = (Plain([f"n{i}" for i in range(size)], (30, 40)) for size in (1, 3))
    divided, crops = SimpleNamespace(micro_batch=1), SimpleNamespace()
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
    assert "a batch of 1 images of 40 x 30 is too" in str(failures.out_of_memory(full, 3, one, divided))
    assert str(failures.out_of_memory(full, 3, one, divided)).endswith("; its views have to be smaller")
    for method in (divided, crops):
        line = str(failures.out_of_memory(full, 3, several, method))
        assert "MICRO_PIXELS" not in line and "more processes" in line and "smaller one" in line
    assert "a batch of 3 images is too" in str(failures.out_of_memory(full, 3, Plain("abc", (0, 0)), crops))


@pytest.mark.parametrize("batch_is_kept", [True, False])
def test_the_first_process_keeps_the_log_where_another_one_failed(tmp_path, batch_is_kept):
    """It hears only that the other has ended, for whatever reason; a kept batch says for which."""
    results, kept = folders(tmp_path, "results", "kept")
    if batch_is_kept:
        (kept / "not-finite-step-3-process-1.pt").touch()
    with pytest.raises(PeerLost):
        run(ending(shared.pretraining(), 3, PeerLost("closed")), results, snapshots=Snapshots(kept, 100))
    assert (kept / "log.csv").exists() == batch_is_kept
    if batch_is_kept:
        assert (kept / "log.csv").read_bytes() == (results / "log.csv").read_bytes()


@pytest.mark.gpu
@CUDA
def test_a_gpu_goes_on_where_it_was(tmp_path):
    """Not in equal bits: of the gradient of grid_sample there is no kernel for CUDA that sums in a fixed order."""
    cuda = torch.device("cuda")
    prepare(cuda)

    def pretrain(folder, step=None):
        made = shared.pretraining()
        for module in made.modules().values():
            module.to(cuda)
        made = made if step is None else ending(made, step)
        return shared.train(made, folder / "log.csv", device=cuda, snapshots=Snapshots(folder, 3))

    undisturbed, killed = folders(tmp_path, "undisturbed", "killed")
    truth = pretrain(undisturbed)
    with pytest.raises(Killed):
        pretrain(killed, 5)
    found = pretrain(killed)
    for ours, theirs in zip(found["rows"], truth["rows"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-3)

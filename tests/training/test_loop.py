"""The loop seen from outside: how far weights move, what the log says, when it stops."""

import csv
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from proseco.base.errors import InputError
from proseco.losses import locsce
from proseco.methods import proseco
from proseco.training import distributed, log
from proseco.training.loop import fit, parameter_groups
from proseco.training.schedules import Schedule
from proseco.training.snapshots import Snapshots
from tests import tiny

CPU = torch.device("cpu")


@dataclass
class Plain:
    """A batch of numbers, a quarter of it padding."""

    keys: list
    value: float = 1.0
    mask: torch.Tensor = torch.tensor([[[False, False], [False, True]]])  # noqa: RUF009, for none changes it

    def __len__(self):
        return len(self.keys)

    def to(self, device):
        return self


class Network(nn.Module):
    """One weight of each kind that the loop tells apart, and one that is fixed."""

    def __init__(self):
        super().__init__()
        for name in ("backbone", "sampling_offsets", "reference_points", "head", "fixed"):
            setattr(self, name, nn.Linear(3, 2, bias=False))
        self.fixed.requires_grad_(False)


class Simple:
    """A method whose batches are trained on as they come."""

    def parts(self, batch):
        return [batch]

    def after_step(self):
        pass

    def modules(self):
        return {"student": self.student}


class Slope(Simple):
    """A loss whose gradient is the same everywhere: Adam then moves each weight by its learning rate at every step."""

    def __init__(self, scale=1.0):
        self.student, self.scale, self.after, self.norms = Network(), scale, 0, []

    def losses(self, batch):
        total = sum(p.sum() for p in self.student.parameters()) * self.scale
        return {"slope": total * batch.value, "offset": total.detach() * 0 + 3}, {"value": torch.tensor(batch.value)}

    def after_step(self):
        self.after += 1
        self.norms.append(torch.stack([p.grad.norm() for p in self.student.parameters() if p.requires_grad]).norm())


def plain(steps, size=4):
    return [Plain([f"n{step}_{i}" for i in range(size)]) for step in range(steps)]


def schedule(**changes):
    return Schedule(**{"batch": 4, "lr": 1e-2, "lr_backbone": 1e-3, "steps": 10, "weight_decay": 0.0} | changes)


def train(method, folder, batches=None, plan=None, *, seed=0, steps=10, precision=torch.float32, **options):
    batches = plain(steps) if batches is None else batches
    return fit(
        method,
        lambda *, first_step, **share: batches[first_step:],
        plan or schedule(),
        steps=steps,
        steps_per_epoch=4,
        seed=seed,
        device=CPU,
        precision=precision,
        log=folder / "logs" / "log.csv",
        title="test",
        **options,
    )


def rows(folder, name="log"):
    with open(folder / "logs" / f"{name}.csv", newline="") as file:
        return list(csv.DictReader(file))


def copies(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize(("drop_at", "slow"), [(0.8, [9, 10]), (0.5, [6, 7, 8, 9, 10]), (0.9167, [10]), (1.0, [])])
def test_the_rate_drops_after_the_given_share_of_the_steps(tmp_path, drop_at, slow):
    method, states = Slope(), []
    moments = dict.fromkeys(range(11), lambda step: states.append(copies(method.student)))
    train(method, tmp_path, plan=schedule(drop_at=drop_at, log_every=1), at_step=moments)
    rates = {"head": 1e-2, "sampling_offsets": 1e-3, "reference_points": 1e-3, "backbone": 1e-3, "fixed": 0.0}
    for step in range(1, 11):
        for name, rate in rates.items():
            moved = states[step - 1][f"{name}.weight"] - states[step][f"{name}.weight"]
            expected = rate * (0.1 if step in slow else 1)
            assert torch.allclose(moved, torch.full((2, 3), expected), rtol=1e-2, atol=1e-7), (name, step)
    lrs = [float(row["lr"]) for row in rows(tmp_path)]
    assert lrs == pytest.approx([1e-3 if step in slow else 1e-2 for step in range(1, 11)])


WAVE = [1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4]


@pytest.mark.parametrize(
    ("changes", "factors"),
    [
        ({"decay": "cosine"}, WAVE),
        ({"decay": "cosine", "final": 0.5}, [0.5 + factor / 2 for factor in WAVE]),
        ({"warmup": 2}, [0.5, 1, 1, 0.1]),
    ],
)
def test_every_rate_follows_the_schedule(tmp_path, changes, factors):
    """Of gradient descent without momentum, whose steps are its rates."""
    method, states = Slope(), []
    moments = dict.fromkeys(range(5), lambda step: states.append(copies(method.student)))
    plan = schedule(optimizer="sgd", momentum=0.0, clip=None, log_every=1, **changes)
    train(method, tmp_path, plain(4), plan, steps=4, at_step=moments)
    for step, factor in enumerate(factors):
        for name, rate in {"head": 1e-2, "sampling_offsets": 1e-3, "backbone": 1e-3}.items():
            moved = states[step][f"{name}.weight"] - states[step + 1][f"{name}.weight"]
            assert torch.allclose(moved, torch.full((2, 3), rate * factor), rtol=1e-3, atol=1e-7), (name, step)
    assert [float(row["lr"]) for row in rows(tmp_path)] == pytest.approx([1e-2 * factor for factor in factors])


def test_momentum_of_gradient_descent(tmp_path):
    method = Slope()
    before = copies(method.student)["head.weight"]
    train(method, tmp_path, plain(3), schedule(optimizer="sgd", momentum=0.5, clip=None, drop_at=1.0), steps=3)
    moved = before - method.student.head.weight
    assert torch.allclose(moved, torch.full((2, 3), 1e-2 * (1 + 1.5 + 1.75)), rtol=1e-3)


def test_lars_takes_the_keys_of_its_schedule(tmp_path):
    method = Slope(scale=7.0)
    before = copies(method.student)
    keys = {"optimizer": "lars", "momentum": 0.5, "trust": 0.4, "weight_decay": 0.0, "clip": None, "drop_at": 1.0}
    train(method, tmp_path, plain(1), schedule(**keys), steps=1)
    for name, rate in {"head": 1e-2, "backbone": 1e-3}.items():
        moved = (before[f"{name}.weight"] - method.student.get_parameter(f"{name}.weight")).norm().item()
        assert moved == pytest.approx(rate * 0.4 * before[f"{name}.weight"].norm().item(), rel=1e-3)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "lars"])
def test_a_training_goes_on_in_equal_bits_with_every_optimizer(tmp_path, optimizer):
    """In the warm-up, and then on the wave."""

    def run(folder, ends=()):
        for step in (*ends, None):
            method = Noisy()
            at_step = {} if step is None else {step: lambda step: 1 / 0}
            plan = schedule(optimizer=optimizer, decay="cosine", warmup=4, clip=None, log_every=1, weight_decay=0.1)
            (folder / "states").mkdir(parents=True, exist_ok=True)
            options = {"snapshots": Snapshots(folder / "states", 2), "at_step": at_step}
            if step is None:
                train(method, folder, plan=plan, **options)
            else:
                with pytest.raises(ZeroDivisionError):
                    train(method, folder, plan=plan, **options)
        return copies(method.student), (folder / "logs" / "log.csv").read_bytes()

    (truth, log), (found, again) = run(tmp_path / "whole"), run(tmp_path / "parts", ends=(3, 7))
    assert all(torch.equal(value, found[name]) for name, value in truth.items()) and log == again


def test_groups_of_a_detector():
    model = tiny.detector()
    model.backbone[0].body.layer1.requires_grad_(False)
    groups = parameter_groups(model, Schedule(batch=2, lr=1e-3, lr_backbone=5e-5, linear_factor=0.2))
    names = {id(p): name for name, p in model.named_parameters()}
    by_rate = {group["lr"]: {names[id(p)] for p in group["params"]} for group in groups}
    backbone = {n for n in names.values() if n.startswith("backbone.")}
    linear = {n for n in names.values() if "sampling_offsets" in n or "reference_points" in n}
    assert len(linear) == 2 * 3 + 2  # weight and bias of three attentions' offsets; the reference points
    assert sorted(by_rate) == pytest.approx([5e-5, 2e-4, 1e-3])
    assert by_rate[5e-5] == {n for n in backbone if "layer1" not in n}
    assert by_rate[1e-3 * 0.2] == linear
    assert by_rate[1e-3] == set(names.values()) - backbone - linear
    assert sum(len(group["params"]) for group in groups) == sum(map(len, by_rate.values()))


def test_a_pyramid_below_the_backbone_is_no_part_of_it():
    """Names as of torchvision's detectors: the pyramid is drawn anew and learns at the full rate."""
    model = nn.ModuleDict({"backbone": nn.ModuleDict({"body": nn.Linear(2, 2), "fpn": nn.Linear(2, 3)})})
    groups = parameter_groups(model, Schedule(batch=2, lr=1e-3, lr_backbone=0.0))
    assert [(group["lr"], len(group["params"])) for group in groups] == [(1e-3, 2)]
    assert groups[0]["params"][0].shape == (3, 2)


def test_a_backbone_of_rate_0_is_kept(tmp_path):
    method = Slope()
    before = copies(method.student)
    plan = schedule(lr_backbone=0.0, weight_decay=0.1)
    assert sum(len(group["params"]) for group in parameter_groups(method.student, plan)) == 3
    train(method, tmp_path, plan=plan)
    assert float(rows(tmp_path)[0]["grad_norm"]) == pytest.approx(18**0.5)  # nor does it count in the clipping
    after = copies(method.student)
    assert torch.equal(before["backbone.weight"], after["backbone.weight"])
    assert torch.equal(before["fixed.weight"], after["fixed.weight"])
    assert not torch.equal(before["head.weight"], after["head.weight"])


def test_weights_decay(tmp_path):
    method, plan = Slope(scale=0.0), schedule(weight_decay=0.5)
    before = copies(method.student)
    train(method, tmp_path, plan=plan)
    factor = (1 - 1e-2 * 0.5) ** 8 * (1 - 1e-3 * 0.5) ** 2
    assert torch.allclose(method.student.head.weight, before["head.weight"] * factor)


def test_the_whole_gradient_is_clipped(tmp_path):
    method = Slope(scale=100.0)
    train(method, tmp_path, plan=schedule(clip=0.25, log_every=1))
    assert method.norms == pytest.approx([0.25] * 10, rel=1e-4)
    assert float(rows(tmp_path)[0]["grad_norm"]) == pytest.approx(100 * 24**0.5, rel=1e-4)  # as it was before
    small = Slope(scale=0.001)
    train(small, tmp_path, plan=schedule(clip=0.25))
    assert small.norms == pytest.approx([0.001 * 24**0.5] * 10, rel=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_before_the_update(tmp_path, value):
    method, batches = Slope(), plain(10)
    batches[3].value = value
    states = []
    moments = dict.fromkeys(range(11), lambda step: states.append(copies(method.student)))
    with pytest.raises(FloatingPointError, match="step 3: slope is not finite; images n3_0, n3_1, n3_2, n3_3"):
        train(method, tmp_path, batches, at_step=moments)
    assert len(states) == 4
    assert all(torch.equal(p, states[-1][name]) for name, p in method.student.state_dict().items())
    assert method.after == 3


def test_a_term_that_is_no_number_stops_even_without_a_gradient(tmp_path):
    method = Slope()
    losses = method.losses
    method.losses = lambda batch: (losses(batch)[0] | {"constant": torch.tensor(float("nan"))}, {})
    before = copies(method.student)
    with pytest.raises(FloatingPointError, match="step 0: constant is not finite"):
        train(method, tmp_path)
    assert all(torch.equal(p, before[name]) for name, p in method.student.state_dict().items())


def test_a_gradient_that_is_no_number_stops_too(tmp_path):
    method = Slope()
    method.losses = lambda batch: ({"root": (method.student.head.weight * 0).sqrt().sum()}, {})
    with pytest.raises(FloatingPointError, match="step 0: gradient is not finite"):
        train(method, tmp_path)


def test_the_log_holds_means_of_intervals(tmp_path):
    method, batches = Slope(), plain(10)
    for step, batch in enumerate(batches):
        batch.value = float(step)
    train(method, tmp_path, batches, plan=schedule(log_every=4))
    table = rows(tmp_path)
    assert list(table[0]) == ["step", "epoch", "lr", "loss", "slope", "offset", "value", "grad_norm"]
    assert [int(row["step"]) for row in table] == [4, 8, 10]
    assert [float(row["epoch"]) for row in table] == [1, 2, 2.5]
    assert [float(row["value"]) for row in table] == [1.5, 5.5, 8.5]
    assert [float(row["offset"]) for row in table] == [3, 3, 3]
    for row in table:
        assert float(row["loss"]) == pytest.approx(float(row["slope"]) + 3, abs=1e-4)


def test_the_parts_of_a_batch_are_one_step(tmp_path):
    """Gradients, terms and figures of the parts add up, in the update as in the log."""
    found = []
    for shares in ([1.0], [0.5, 0.3, 0.2]):
        torch.manual_seed(0)
        method, folder = Slope(scale=0.01), tmp_path / str(len(shares))
        method.parts = lambda batch, shares=shares: [Plain(batch.keys, share) for share in shares]
        losses = method.losses
        method.losses = lambda part, losses=losses: (
            losses(part)[0] | {"offset": torch.tensor(3 * part.value)},
            losses(part)[1],
        )
        train(method, folder, plan=schedule(log_every=1, clip=None, optimizer="sgd"))
        assert method.after == 10
        found.append((torch.tensor([[float(x) for x in row.values()] for row in rows(folder)]), copies(method.student)))
    (whole, weights), (parts, others) = found
    assert torch.allclose(parts, whole, rtol=1e-4)
    assert all(torch.allclose(others[name], value, atol=1e-6) for name, value in weights.items())


def test_time_is_that_of_training_alone(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(log, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def wait(seconds):
        clock.now += seconds

    method = Slope()
    losses = method.losses
    method.losses = lambda batch: (wait(2), losses(batch))[1]
    moments = {step: lambda step: wait(1000) for step in (0, 1, 4, 7, 10)}
    train(method, tmp_path, plan=schedule(log_every=4), at_step=moments)
    table = rows(tmp_path, "speed")
    assert [[float(value) for value in row.values()] for row in table] == [
        [4, 8, 2, 0.25],
        [8, 16, 2, 0.25],
        [10, 20, 2, 0.25],
    ]
    assert list(table[0]) == ["step", "seconds", "images_per_second", "padding"]


def test_what_is_restored_takes_no_time_of_training(tmp_path, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(log, "time", SimpleNamespace(perf_counter=lambda: clock.now))

    def wait(seconds):
        clock.now += seconds

    def run(ends_at=None):
        method = Slope()
        losses = method.losses
        method.losses = lambda batch: (wait(2), losses(batch))[1]
        slow = SimpleNamespace(state_dict=dict, load_state_dict=lambda state: wait(1000))
        at_step = {} if ends_at is None else {ends_at: lambda step: 1 / 0}
        options = {"snapshots": Snapshots(tmp_path, 4), "extra_state": {"slow": slow}, "at_step": at_step}
        train(method, tmp_path, plan=schedule(log_every=4), **options)

    with pytest.raises(ZeroDivisionError):
        run(ends_at=4)
    run()
    table = rows(tmp_path, "speed")
    assert [[float(value) for value in row.values()] for row in table] == [
        [4, 8, 2, 0.25],
        [8, 16, 2, 0.25],
        [10, 20, 2, 0.25],
    ]


def test_moments_come_when_they_should(tmp_path):
    method, seen = Slope(), []

    def look(step):
        seen.append((step, method.after))
        method.student.eval()  # as a validation does

    modes = []
    losses = method.losses
    method.losses = lambda batch: (modes.append(method.student.training), losses(batch))[1]
    train(method, tmp_path, at_step=dict.fromkeys([10, 0, 3], look))
    assert seen == [(0, 0), (3, 3), (10, 10)]
    assert modes == [True] * 10


def test_a_moment_may_end_the_training(tmp_path):
    """Whoever is killed after the end, say while the test images are searched, has nothing to run again."""
    method, seen = Slope(), []
    options = {"plan": schedule(log_every=4, drop_at=0.2), "snapshots": Snapshots(tmp_path, 3)}
    moments = dict.fromkeys([2, 5, 7], lambda step: seen.append(step) or step == 5)
    assert train(method, tmp_path, at_step=moments, **options) == 5
    assert seen == [2, 5] and method.after == 5
    assert [(int(row["step"]), float(row["lr"])) for row in rows(tmp_path)] == [(4, 1e-3), (5, 1e-3)]
    assert [int(row["step"]) for row in rows(tmp_path, "speed")] == [4, 5]
    log = (tmp_path / "logs" / "log.csv").read_bytes()
    assert train(method, tmp_path, at_step=dict.fromkeys([2, 5, 7], lambda step: 1 / 0), **options) == 5
    assert method.after == 5 and (tmp_path / "logs" / "log.csv").read_bytes() == log
    assert train(Slope(), tmp_path / "another", at_step={10: lambda step: True}) == 10


def test_processes_begin_alike_and_drop_out_each_in_its_own_way(tmp_path, monkeypatch):
    drawn, equalised = {}, []
    monkeypatch.setattr(distributed, "equalise", lambda modules: equalised.append(list(modules)))
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        method, drawn[rank] = Slope(), []
        losses = method.losses
        method.losses = lambda batch, to=drawn[rank], losses=losses: (to.append(torch.rand(1).item()), losses(batch))[1]
        train(method, tmp_path / str(rank))
        assert equalised.pop() == [method.student] and not equalised
    assert len(set().union(*drawn.values())) == 30


def test_rates_may_follow_another_factor(tmp_path):
    train(Slope(), tmp_path, plan=schedule(log_every=1), factor=lambda step: 1 / (1 + step))
    assert [float(row["lr"]) for row in rows(tmp_path)] == pytest.approx([1e-2 / n for n in range(1, 11)])


class Noisy(Simple):
    """Dropout, and a gradient that depends on it."""

    def __init__(self):
        torch.manual_seed(3)
        self.student = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def losses(self, batch):
        return {"square": self.student(torch.full((5, 4), batch.value)).square().mean()}, {}


def test_equal_seeds_give_equal_bits(tmp_path):
    def result(seed, at_step=None):
        method = Noisy()
        train(method, tmp_path, seed=seed, at_step=at_step)
        return torch.cat([p.detach().flatten() for p in method.student.parameters()])

    first = result(0)
    assert torch.equal(first, result(0))
    assert not torch.equal(first, result(1))
    # What else draws random numbers in between, e.g. a validation, changes nothing.
    assert torch.equal(first, result(0, at_step=dict.fromkeys([0, 2, 5], lambda step: torch.rand(step + 1))))


def test_a_pretraining_runs_in_it(tmp_path):
    def pretrain(folder):
        model = tiny.detector(num_classes=None, dropout=0.2)
        method = proseco.build(
            model, weak={}, strong={}, loss=partial(locsce.loss, delta=0.3), ema_rate=0.5, projector=(20, 12)
        )
        expected, backbone = copies(method.teacher), copies(method.backbone)

        def follow(step):
            for name, value in method.student.state_dict().items():
                expected[name] = 0.5 * expected[name] + 0.5 * value

        batches = [tiny.batch(seed=step) for step in range(4)]
        plan = schedule(lr_backbone=1e-2, log_every=2)
        train(method, folder, batches, plan, steps=4, at_step=dict.fromkeys(range(1, 5), follow))
        return method, expected, backbone

    (method, expected, backbone), (again, _, _) = (pretrain(tmp_path / name) for name in ("one", "two"))
    for name, value in method.teacher.state_dict().items():
        assert torch.allclose(value, expected[name], atol=1e-5), name
    assert all(torch.equal(value, backbone[name]) for name, value in method.backbone.state_dict().items())
    assert not torch.equal(method.student.projector.layers[0].weight, method.teacher.projector.layers[0].weight)
    for one, two in ((method.student, again.student), (method.teacher, again.teacher)):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    logs = [rows(tmp_path / name) for name in ("one", "two")]
    assert {"contrast", "coord", "giou", "positives", "matched_iou", "cosine"} < set(logs[0][0])
    assert logs[0] == logs[1]


def test_processes_of_different_trainings_are_refused(tmp_path, monkeypatch):
    """As on two machines of which each has settings of its own."""
    monkeypatch.setattr(distributed, "gather_values", lambda name: [name, "another"])
    with pytest.raises(InputError, match="the processes of this training differ in settings, inputs, code or versions"):
        train(Noisy(), tmp_path, snapshots=Snapshots(tmp_path, 1))

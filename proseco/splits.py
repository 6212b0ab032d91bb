"""Which images are labelled: the keys of all images -> those that a rule and a seed draw."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proseco.base.errors import InputError, one_of
from proseco.data import id_files

#: Each rule, and the key of a benchmark's entry that it needs.
RULES = {"all": None, "cover": "fraction", "file": "ids", "uniform": "fraction"}
#: Keys of a benchmark's entry that say what is drawn.
RULE_KEYS = ("rule", "fraction", "ids")


def rule_of(entry: dict, own: Path) -> dict:
    """The keywords of :func:`sample` and :func:`draw` that a benchmark's entry says.

    :param own: folder of the id files that users bring; ``ids`` names one of them.
    """
    rule = {key: entry[key] for key in RULE_KEYS if key in entry}
    return rule | {"ids": own / rule["ids"]} if "ids" in rule else rule


def facts_of(benchmark: str, entry: dict) -> dict:
    """What the id files of a benchmark say of it in their first line, beside the seed."""
    subset = "_".join(entry["train"].split())
    rule = {key: entry[key] for key in RULE_KEYS if key in entry}
    return {"data_set": entry["name"], "subset": subset, "benchmark": benchmark, **rule}


def sample(
    annotations: dict, *, rule: str, fraction: float | None = None, ids: str | Path | None = None, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Draw the keys of the images to label.

    :param annotations: COCO-format dict (:mod:`proseco.data.annotations`).
    :param rule: ``all`` of them; ``uniform``, a plain draw; ``cover``, a draw that leaves every class on both sides;
        ``file``, those that an id file lists.
    :param fraction: of the images, 0..1, for ``uniform`` and ``cover``.
    :param ids: the id file, for ``file``; ``{seed}`` in its name stands for the seed.
    :returns: the keys, sorted, and notes on what the draw could not achieve, one line each.
    :raises InputError: an unknown rule, a fraction out of range, an id file that is malformed or lists other images.
    """
    keys = [image["key"] for image in annotations["images"]]
    if rule == "all":
        return id_files.sorted_keys(keys), []
    if rule == "file":
        return _listed(str(ids).replace("{seed}", str(seed)), keys), []
    if rule == "uniform":
        return uniform(keys, fraction=fraction, seed=seed), []
    if rule == "cover":
        return cover(presence(annotations), fraction=fraction, seed=seed)
    raise one_of("rule", rule, RULES, "benchmarks")


def _listed(path: str, keys: list[str]) -> list[str]:
    chosen = id_files.read(path, header=False)
    unknown = set(chosen) - set(keys)
    if unknown or not chosen:
        first = id_files.sorted_keys(unknown)[0] if unknown else None
        raise InputError(
            f"{len(unknown)} of the {len(chosen)} ids in {path!r} are not among the {len(keys)} images of the data set "
            f"(the first is {first!r}); expected one or more of its ids{f', such as {keys[0]!r}' if keys else ''}"
        )
    return id_files.sorted_keys(chosen)


def uniform(keys: Iterable[str], *, fraction: float, seed: int) -> list[str]:
    """``round(n * fraction)`` of the keys, at least one, without replacement.

    The draw is that of DETReg's public Mini-COCO sampler, ``default_rng(seed).choice`` on the sorted ids: with seed 42
    it gives the same images.
    """
    keys = id_files.sorted_keys(keys)
    return [keys[row] for row in np.flatnonzero(_draw(len(keys), fraction, np.random.default_rng(seed)))]


def _draw(count: int, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """``count`` booleans, ``round(count * fraction)`` of them true."""
    if not isinstance(fraction, int | float) or not 0 < fraction <= 1:
        raise InputError(f"fraction is {fraction!r}; expected a number above 0, at most 1")
    if not count:
        raise InputError("there are no images to sample from; expected one or more")
    drawn = np.zeros(count, dtype=bool)
    drawn[rng.choice(count, size=max(1, round(count * fraction)), replace=False)] = True
    return drawn


def presence(annotations: dict) -> dict[str, set[str]]:
    """Key of each image -> names of the classes that it shows.

    Crowds and difficult objects do not count: a test set that has a class only through them could not score it.
    """
    names = {category["id"]: category["name"] for category in annotations["categories"]}
    shown: dict[int, set[str]] = {image["id"]: set() for image in annotations["images"]}
    for record in annotations["annotations"]:
        if not record["iscrowd"] and not record["difficult"]:
            shown[record["image_id"]].add(names[record["category_id"]])
    return {image["key"]: shown[image["id"]] for image in annotations["images"]}


def cover(shown: dict[str, set[str]], *, fraction: float, seed: int) -> tuple[list[str], list[str]]:
    """A draw as by :func:`uniform`, with as few changes as needed to have every class both drawn and left over.

    The two images of a class that has two must be on different sides. Images that are tied together by such classes
    move as one unit, which covers these classes by construction. Classes with more images are covered by moving units,
    each time the one that uncovers the fewest other classes. The image of a class that has only one is drawn. Then
    units move back, as far as coverage allows, until ``round(n * fraction)`` images are drawn again.

    :param shown: key -> its classes, as :func:`presence` gives it.
    :returns: the drawn keys, sorted, and notes: one per class that is on one side only, one if the number is missed.
    """
    keys = id_files.sorted_keys(shown)
    rng = np.random.default_rng(seed)
    drawn = _draw(len(keys), fraction, rng)
    wanted = min(int(drawn.sum()), max(len(keys) - 1, 1))
    state = _Sides([sorted(shown[key]) for key in keys], drawn.tolist())
    state.cover(rng)
    state.resize(wanted, rng)
    notes = []
    for name, rows in state.rows.items():
        if state.count[name] in (0, len(rows)):
            side = "among the drawn" if state.count[name] else "among the rest"
            notes.append(f"class {name!r} is only {side}: it has {len(rows)} image{'s' if len(rows) > 1 else ''}")
    if sum(state.inside) != wanted:
        notes.append(f"drew {sum(state.inside)} of {len(keys)} images, not {wanted}: moving more would uncover a class")
    return [key for key, inside in zip(keys, state.inside, strict=True) if inside], notes


class _Sides:
    """Images on two sides, drawn (``inside``) or not, and moves that bring every class to both."""

    def __init__(self, classes: list[list[str]], inside: list[bool]) -> None:
        self.classes, self.inside = classes, inside
        self.rows: dict[str, list[int]] = {}
        for row, names in enumerate(classes):
            for name in names:
                self.rows.setdefault(name, []).append(row)
        self.rows = dict(sorted(self.rows.items()))
        single = {rows[0] for rows in self.rows.values() if len(rows) == 1}
        self.unit = [-1] * len(classes)  # image -> its unit
        self.units: list[list[int]] = []
        self.fixed: set[int] = set()
        # Units with the only image of a class come first, as that image's side is given.
        for row in [*sorted(single), *range(len(classes))]:
            if self.unit[row] < 0:
                if row in single:
                    self.fixed.add(len(self.units))
                    inside[row] = True
                self._tie(row, single)
        self.count = {name: sum(inside[row] for row in rows) for name, rows in self.rows.items()}

    def _tie(self, start: int, single: set[int]) -> None:
        """Make the unit of an image: all images that two-image classes connect to it, on alternating sides."""
        members, self.unit[start] = [start], len(self.units)
        for row in members:
            for name in self.classes[row]:
                if len(self.rows[name]) == 2:
                    other = sum(self.rows[name]) - row
                    if self.unit[other] < 0 and other not in single:
                        self.unit[other] = len(self.units)
                        self.inside[other] = not self.inside[row]
                        members.append(other)
        self.units.append(members)

    def _flip(self, unit: int) -> None:
        """Move each image of a unit to its other side."""
        for row in self.units[unit]:
            step = -1 if self.inside[row] else 1
            self.inside[row] = not self.inside[row]
            for name in self.classes[row]:
                self.count[name] += step

    def _harm(self, unit: int) -> int:
        """How many more classes would be on one side only if the unit were moved."""
        names = {name for row in self.units[unit] for name in self.classes[row]}
        before = sum(self.count[name] in (0, len(self.rows[name])) for name in names)
        self._flip(unit)
        after = sum(self.count[name] in (0, len(self.rows[name])) for name in names)
        self._flip(unit)
        return after - before

    def cover(self, rng: np.random.Generator) -> None:
        """Move units until every class is on both sides or no unit can help; at most some thousand moves."""
        for _ in range(1000 + 20 * len(self.rows)):
            lacking = [rows for name, rows in self.rows.items() if self.count[name] in (0, len(rows))]
            movable = [sorted({self.unit[row] for row in rows} - self.fixed) for rows in lacking]
            movable = [choices for choices in movable if choices]
            if not movable:
                return
            choices = movable[rng.integers(len(movable))]
            rng.shuffle(choices)
            # Now and then any move at all, or two classes could undo each other's for ever.
            self._flip(choices[0] if rng.random() < 0.1 else min(choices, key=self._harm))

    def resize(self, wanted: int, rng: np.random.Generator) -> None:
        """Move units until ``wanted`` images are drawn, as far as no class is lost on a side."""
        surplus = sum(self.inside) - wanted
        for unit in rng.permutation(len(self.units)).tolist():
            if not surplus:
                return
            change = sum(-1 if self.inside[row] else 1 for row in self.units[unit])
            if unit not in self.fixed and abs(surplus + change) < abs(surplus) and self._harm(unit) <= 0:
                self._flip(unit)
                surplus += change


def held_out(keys: Iterable[str], chosen: Iterable[str], count: int, seed: int) -> list[str]:
    """``count`` of the keys that were not chosen, sorted: for validation, so that test images decide nothing.

    :raises InputError: fewer are left.
    """
    rest = id_files.sorted_keys(set(keys) - set(chosen))
    if not 0 <= count <= len(rest):
        raise InputError(
            f"validation of {count} images: expected a number from 0 to {len(rest)}, all that are left "
            "(scales.<scale>.split.validation)"
        )
    rows = np.random.default_rng(seed).choice(len(rest), size=count, replace=False) if count else []
    return [rest[row] for row in sorted(rows)]


def _held_out_of_labelled(keys: list[str], shown: dict[str, set[str]], count: int, seed: int) -> list[str]:
    """:func:`held_out` of all keys, with others in the place of those that would take a class's last image away.

    :param shown: as from :func:`presence`.
    """
    first = held_out(keys, [], count, seed)
    others = id_files.sorted_keys(set(keys) - set(first))
    order = [*first, *(others[row] for row in np.random.default_rng(seed).permutation(len(others)))]
    left, chosen = Counter(name for key in keys for name in shown[key]), []
    for key in order:
        if len(chosen) < count and all(left[name] > 1 for name in shown[key]):
            chosen.append(key)
            left.subtract(shown[key])
    taken = set(chosen)
    last = [key for key in order if key not in taken]  # where there is no other choice
    return id_files.sorted_keys([*chosen, *last[: count - len(chosen)]])


@dataclass
class Split:
    """Keys of the parts ``train``, ``val`` and ``test``; the parts taken from the test subset; notes to print."""

    keys: dict[str, list[str]]
    from_test: set[str]
    notes: list[str]

    @property
    def published(self) -> list[str]:
        """The parts that a draw decided: not those of the test subset, nor a validation that equals the test."""
        own = [part for part in self.keys if part not in self.from_test]
        return [part for part in own if part != "val" or self.keys["val"] != self.keys["test"]]


def draw(
    whole: dict,
    test: dict | None,
    rule: str,
    *,
    seed: int,
    validation: int | str,
    fraction: float | None = None,
    ids: str | Path | None = None,
) -> Split:
    """Draw all images that one finetuning needs: to train on, to choose the checkpoint by, and to score.

    :param whole: COCO-format dict of the training subset.
    :param test: COCO-format dict of the test subset; None to test on what the rule leaves of ``whole``.
    :param rule: with ``fraction`` or ``ids``, see :func:`sample`.
    :param validation: the number of images to validate on. They come from what the rule leaves of ``whole``; where
        nothing is left, or it is the test, from the drawn images, of which they are at most a fifth, and which keep an
        image of each class as far as there are others to take. ``test``: the test images themselves, as in the paper.
    :raises InputError: as :func:`sample` and :func:`held_out`; nothing is left to test on, or too few images are drawn
        to hold out any; a test image is among the others.
    """
    train, notes = sample(whole, rule=rule, fraction=fraction, ids=ids, seed=seed)
    everything, shown = id_files.sorted_keys(image["key"] for image in whole["images"]), presence(whole)
    keys, from_test = {"train": train}, set()
    if test is None:
        taken = set(train)
        keys["test"] = [key for key in everything if key not in taken]
        if not keys["test"]:
            raise InputError(f"rule {rule!r} takes all {len(train)} images and leaves none to test on; test is null")
    else:
        keys["test"] = id_files.sorted_keys(image["key"] for image in test["images"])
        from_test.add("test")
    if validation == "test":
        keys["val"] = keys["test"]
        if test is not None:
            from_test.add("val")
    elif test is None or len(train) == len(everything):  # nothing else is left: hold out of the labelled ones
        if len(train) < 5:
            raise InputError(
                f"{len(train)} labelled images: a fifth of them, held out to validate on, is none; label 5 or more, or "
                "set scales.<scale>.split.validation to test (params.yaml)"
            )
        keys["val"] = _held_out_of_labelled(train, shown, min(validation, len(train) // 5), seed)
        held = set(keys["val"])
        keys["train"] = [key for key in train if key not in held]
    else:
        keys["val"] = held_out(everything, train, validation, seed)
    scored = [shown[key] for key in keys["test"]] if test is None else presence(test).values()
    scored, trained = (set().union(*classes) for classes in (scored, (shown[key] for key in keys["train"])))
    if missing := sorted(scored - trained):
        notes.append(
            f"none of the {len(keys['train'])} images to train on shows {len(missing)} of the {len(scored)} classes "
            f"that are scored: {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}"
        )
    if test is not None:
        own = keys["train"] + ([] if "val" in from_test else keys["val"])
        _refuse_shared(whole, own, test)
    return Split(keys, from_test, notes)


def _refuse_shared(whole: dict, own: list[str], test: dict) -> None:
    """Refuse test images whose files are among those to train or validate on, under whatever key.

    :param own: keys of these, in ``whole``.
    """
    chosen = set(own)
    files = {image["file_name"] for image in whole["images"] if image["key"] in chosen}
    shared = [image["file_name"] for image in test["images"] if image["file_name"] in files]
    if shared:
        raise InputError(
            f"{len(shared)} of {len(test['images'])} test images are among those to train or validate on, the first is "
            f"{shared[0]!r}; expected others (test: null tests on what the rule leaves of train)"
        )


def publish(folder: Path, drawn: Split, **facts) -> None:
    """Write ``<part>.txt`` of each part that the draw decided; see :func:`proseco.data.id_files.write`."""
    for part in drawn.published:
        id_files.write(folder / f"{part}.txt", drawn.keys[part], **facts)

"""Everything that stage ``tabulate`` writes: tables, the DVC metric, figures."""

from pathlib import Path

import pandas

from proseco import pictures
from proseco.base import files
from proseco.base.errors import InputError
from proseco.tables import figures, overview, paper, published, summary


def write(
    out: Path,
    results: Path,
    *,
    run: dict[str, list],
    rows: dict[str, dict],
    benchmarks: dict[str, str],
    alias: dict[str, str],
    families: dict[str, dict[str, float]],
    pretrained: list[str],
    compare_with_paper: bool,
    data: str,
    proposals: dict[str, str],
) -> str:
    """Write into the folder ``out`` what the run's own grid says (``results.md``, ``results.csv``, ``metrics.json``,
    ``recall.csv``, figures), the paper's tables (``table-1a.md``, ``.csv``, ``.tex`` and so on), and ``index.html``.

    :param results: folder of one scale (``results/demo``).
    :param run: section ``run`` of the parameters: methods, benchmarks, seeds, ablations, ablation_benchmarks.
    :param rows: as from :func:`proseco.experiment.wording.describe_all`.
    :param benchmarks: name -> title, all of the parameters.
    :param alias: row -> the row whose results are its own.
    :param families: as from :func:`proseco.experiment.wording.families`.
    :param pretrained: the methods that have a pretraining to show.
    :param data: as from :func:`proseco.experiment.wording.data`.
    :param proposals: as from :func:`proseco.experiment.rows.proposal_sources`.
    :returns: the Markdown of the grid.
    :raises InputError: a result of the grid is missing; it names the command that makes it.
    """
    methods, ablations = ({name: rows[name]["title"] for name in run[kind]} for kind in ("methods", "ablations"))
    shown, seeds = {name: benchmarks[name] for name in run["benchmarks"]}, run["seeds"]
    ablation_benchmarks = {name: benchmarks[name] for name in run["ablation_benchmarks"]}
    everything = _everything(results, methods, shown, ablations, ablation_benchmarks, seeds)
    grid = everything[everything["method"].isin(methods)]
    printed = paper.read() if compare_with_paper else None
    budget = _budget(results, methods, shown, seeds, pretrained, data)
    text = overview.markdown(grid, paper=printed, caption=budget)
    if ablations:
        changed = everything[everything["method"].isin(ablations)]
        steps = {name: files.read_json(results / "pretrain" / name / "metrics.json")["steps"] for name in ablations}
        method_titles = {name: rows[rows[name]["of"]]["title"] for name in ablations}
        reference = methods[summary.reference_of(everything)]
        text += "\n" + overview.ablations(changed, reference, method_titles=method_titles, steps=steps)
    files.write_text(out / "results.md", text)
    files.write_text(out / "results.csv", summary.csv(everything))
    files.write_json(out / "metrics.json", summary.metrics(everything))
    # The paper's ablations have tables of their own, some of many lines.
    drawn = {*methods, *(set(ablations) - set(paper.read()["row"]))}
    bars = everything[everything["method"].isin(drawn)]
    figures.ap_bars(bars, out / "ap.png", f"AP after finetuning ({results.name} scale)")
    _pictures(out, results, methods, shown, seeds[0], pretrained)
    _proposals(out, results, shown, proposals)
    published.write(
        out,
        results,
        run=run,
        rows=rows,
        benchmarks=benchmarks,
        alias=alias,
        families=families,
        compare_with_paper=compare_with_paper,
        data=data,
        lead=[budget, *overview.sentences(grid)],
    )
    return text


def _everything(
    results: Path, methods: dict, benchmarks: dict, ablations: dict, ablation_benchmarks: dict, seeds: list[int]
) -> pandas.DataFrame:
    """Methods on their benchmarks, then ablations on theirs, all with gains against one of the methods."""
    frames = [summary.collect(results, methods, benchmarks, seeds)]
    if ablations:
        frames.append(summary.collect(results, ablations, ablation_benchmarks, seeds, stage="finetune_ablation"))
    together = pandas.concat(frames, ignore_index=True)
    summary.check_alike(together)
    return summary.summarise(together)


def _pictures(
    out: Path, results: Path, methods: dict[str, str], benchmarks: dict[str, str], seed: int, pretrained: list[str]
) -> None:
    """``loss.png``, ``detections.png`` of the first benchmark and seed, ``boxes.png`` of the pretrainings."""
    first, title = next(iter(benchmarks.items()))
    folders = {m: results / "finetune" / m / first / str(seed) for m in methods}
    logs = {f"{methods[m]}, pretraining": results / "pretrain" / m / "log.csv" for m in pretrained}
    logs |= {f"{methods[m]}, {title}": folder / "log.csv" for m, folder in folders.items()}
    validations = {
        f"{methods[m]}, {title}": files.read_json(folder / "metrics.json")["validation"]
        for m, folder in folders.items()
    }
    # Each method has one colour, and the first after the reference that of its bars in ap.png.
    numbers = {m: (i - 1) % len(methods) for i, m in enumerate(methods)}
    colors = {f"{methods[m]}, {of}": number for m, number in numbers.items() for of in ("pretraining", title)}
    figures.loss_curves(logs, out / "loss.png", validations, colors)
    pictures.montage({methods[m]: folder / "detections.png" for m, folder in folders.items()}, out / "detections.png")
    if pretrained:
        boxes = {methods[m]: results / "pretrain" / m / "boxes.png" for m in pretrained}
        pictures.montage(boxes, out / "boxes.png")


def _proposals(out: Path, results: Path, benchmarks: dict[str, str], sources: dict[str, str]) -> None:
    """What stage ``recall`` measured: ``recall.csv``, ``recall.png``, ``proposals.png``."""
    table = results / "recall" / "recall.csv"
    again = f"`dvc repro recall@{results.name}` makes it"
    if not table.is_file():
        raise InputError(f"no result {table.as_posix()!r}; {again}")
    recall = pandas.read_csv(table, dtype=str)
    if missing := sorted(set(benchmarks) - set(recall["benchmark"])):
        raise InputError(f"{table.as_posix()!r} lacks {', '.join(missing)}; {again}")
    files.write_text(out / "recall.csv", table.read_text(encoding="utf-8"))
    figures.recall_curves(recall, out / "recall.png", benchmarks, "Labelled objects that the proposals cover")
    sheets = {f"proposals: {title}": table.with_name("proposals") / f"{data}.png" for data, title in sources.items()}
    pictures.montage(sheets, out / "proposals.png")


def _budget(results: Path, methods: dict, benchmarks: dict, seeds: list[int], pretrained: list[str], data: str) -> str:
    """What was trained on, and how long: a gain means little without it."""
    steps = {m: files.read_json(results / "pretrain" / m / "metrics.json")["steps"] for m in pretrained}
    parts = [f"{methods[m]} pretrained once, for {count:,} steps" for m, count in steps.items()]
    for name, title in benchmarks.items():
        folders = (results / "finetune" / method / name / str(seed) for method in methods for seed in seeds)
        metrics = [files.read_json(folder / "metrics.json") for folder in folders]
        count = _span([entry["steps"] for entry in metrics])
        parts.append(f"{title} finetuned for {count}, {_judged(metrics[0])}")
    return f"Scale: {results.name}{f' ({data})' if data else ''}. " + "; ".join(parts) + "."


def _judged(metrics: dict) -> str:
    """On which images checkpoints were chosen and scored."""
    scoring = metrics.get("scoring", "coco")  # of which nothing is said
    tested = f"{metrics['test_images']:,} images" + ("" if scoring == "coco" else f" by {scoring.upper()}'s rule")
    if metrics.get("validated_on_test"):
        return f"its checkpoints chosen and scored on the same {tested}"
    if "validation_images" in metrics:  # not of results from before
        return f"its checkpoints chosen on {metrics['validation_images']:,} held-out images and scored on {tested}"
    return f"scored on {tested}"


def _span(counts: list[int]) -> str:
    """The one number, or the least and the most: a training may end early."""
    return " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))

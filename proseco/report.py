"""Everything that stage ``tabulate`` writes: tables, the DVC metric, figures."""

from pathlib import Path

from proseco import figures, tables
from proseco.base import files


def write(
    out: Path,
    results: Path,
    *,
    methods: dict[str, str],
    benchmarks: dict[str, str],
    seeds: list[int],
    pretrained: list[str],
    compare_with_paper: bool,
) -> str:
    """Write ``results.md``, ``results.csv``, ``metrics.json`` and the figures into the folder ``out``.

    :param results: folder of one scale (``results/demo``).
    :param methods: name -> title of the rows; ``benchmarks`` of the columns.
    :param pretrained: the methods that have a pretraining to show.
    :returns: the Markdown.
    :raises InputError: a cell is missing; it names the command that makes it.
    """
    summary = tables.summarise(tables.collect(results, methods, benchmarks, seeds))
    paper = tables.read_paper() if compare_with_paper else None
    budget = _budget(results, methods, benchmarks, seeds, pretrained)
    text = tables.markdown(summary, paper=paper, caption=budget)
    files.write_text(out / "results.md", text)
    files.write_text(out / "results.csv", tables.csv(summary))
    files.write_json(out / "metrics.json", tables.metrics(summary))
    figures.ap_bars(summary, out / "ap.png", f"AP after finetuning ({results.name} scale)")
    logs = {f"{methods[m]}, pretraining": results / "pretrain" / m / "log.csv" for m in pretrained}
    first = next(iter(benchmarks))
    cells = {m: results / "finetune" / m / first / str(seeds[0]) for m in methods}
    logs |= {f"{methods[m]}, {benchmarks[first]}": cell / "log.csv" for m, cell in cells.items()}
    figures.loss_curves(logs, out / "loss.png")
    figures.montage({methods[m]: cell / "detections.png" for m, cell in cells.items()}, out / "detections.png")
    if pretrained:
        boxes = {methods[m]: results / "pretrain" / m / "boxes.png" for m in pretrained}
        figures.montage(boxes, out / "boxes.png")
    return text


def _budget(results: Path, methods: dict, benchmarks: dict, seeds: list[int], pretrained: list[str]) -> str:
    """How long was trained: a gain means little without it."""
    steps = {m: files.read_json(results / "pretrain" / m / "metrics.json")["steps"] for m in pretrained}
    parts = [f"{methods[m]} pretrained once, for {count:,} steps" for m, count in steps.items()]
    method = next(iter(methods))
    for name, title in benchmarks.items():
        cell = files.read_json(results / "finetune" / method / name / str(seeds[0]) / "metrics.json")
        parts.append(f"{title} finetuned for {cell['steps']:,} and scored on {cell['test_images']:,} images")
    return f"Scale: {results.name}. " + "; ".join(parts) + "."

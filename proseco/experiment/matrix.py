"""The items of the selected run under DVC, by their names: what dvc.yaml says in matrices, as a list."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Item:
    """One item of a stage, ``finetune@demo-proseco-mini_coco_5-42``, and the items whose outputs it reads."""

    stage: str
    name: str
    needs: tuple[str, ...] = ()
    #: A key of ``scales.<scale>.propose.unlabelled``, of the stage ``propose``.
    data: str | None = None
    #: The row of the tables, of trainings.
    row: str | None = None
    benchmark: str | None = None
    seed: int | None = None


def items(params: dict) -> list[Item]:
    """Proposals, splits, backbones, pretrainings and finetunings, each after what it needs.

    Not those before (``plan``, ``data``, ``inventory``), and not ``recall`` and ``tabulate``, which no training needs.

    :param params: params.yaml, checked (:func:`proseco.experiment.schema.check`).
    """
    scale, run = params["scale"], params["run"]
    before = [Item("propose", f"propose@{scale}-{data}", data=data) for data in run["unlabelled"]]
    before += [Item("split", f"split@{scale}-{name}", benchmark=name) for name in run["benchmarks"]]
    backbone = Item("backbone", f"backbone@{scale}")
    before.append(backbone)
    shards = tuple(item.name for item in before if item.stage == "propose")
    parts = (("", run["methods"], run["benchmarks"]), ("_ablation", run["ablations"], run["ablation_benchmarks"]))
    pretrainings, finetunings = [], []
    for suffix, names, benchmarks in parts:
        for name in names:
            source = Item(f"source{suffix}", f"source{suffix}@{scale}-{name}", shards, row=name)
            needs = (source.name, backbone.name)
            pretrain = Item(f"pretrain{suffix}", f"pretrain{suffix}@{scale}-{name}", needs, row=name)
            pretrainings += [source, pretrain]
            finetunings += [
                Item(
                    f"finetune{suffix}",
                    f"finetune{suffix}@{scale}-{name}-{benchmark}-{seed}",
                    (f"split@{scale}-{benchmark}", pretrain.name),
                    row=name,
                    benchmark=benchmark,
                    seed=seed,
                )
                for benchmark in benchmarks
                for seed in run["seeds"]
            ]
    return before + pretrainings + finetunings

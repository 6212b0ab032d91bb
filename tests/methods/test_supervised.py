import torch

from proseco.methods import supervised
from tests import tiny


def test_its_losses_are_the_detectors_on_the_first_view():
    model = tiny.detector()
    method = supervised.build(model, weak={"short_edges": [64], "long_edge": 96})
    batch = tiny.batch()
    terms, figures = method.losses(batch)
    assert method.student is model
    assert figures == {}
    targets = [{"boxes": b, "labels": c} for b, c in zip(batch.boxes, batch.labels, strict=True)]
    truth = model.losses(batch.views[0], batch.mask, targets)
    assert all(torch.equal(terms[name], truth[name]) for name in ("class", "coord", "giou"))
    other = model.losses(batch.views[1], batch.mask, batch.targets())
    assert terms["class"] != other["class"]
    method.after_step()


def test_a_part_is_told_its_share_of_the_batch(monkeypatch):
    """The convolutional detectors' losses are means over images: without it those of parts would add up to more."""
    model, seen = tiny.detector(), []
    method, batch = supervised.build(model, weak={}, micro_batch=2), tiny.batch()
    monkeypatch.setattr(model, "losses", lambda *given: seen.append(given[3:]) or {})
    for part in method.parts(batch):
        method.losses(part)
    assert seen == [(5, 2 / 3), (5, 1 / 3)]


def test_a_few_images_can_be_learned_by_heart():
    model = tiny.detector(box_refinement=True).train()
    method = supervised.build(model, weak={})
    batch = tiny.batch(views=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(60):
        terms, _ = method.losses(batch)
        losses.append(sum(terms.values()))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]
    found = model.eval().detect(batch.views[0], batch.mask, torch.ones(3, 2), limit=3)
    assert found[0]["labels"].unique().tolist() == batch.labels[0].unique().tolist()
    assert found[0]["scores"].min() > found[1]["scores"].max()  # the second image has none

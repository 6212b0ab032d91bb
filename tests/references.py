"""Hugging Face's Deformable DETR with the weights of ours: a reference that nobody here wrote."""

import json

import torch
from safetensors.torch import save_file
from transformers import DeformableDetrForObjectDetection
from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher, DeformableDetrImageLoss

from proseco.data.batch import Batch
from proseco.detectors import deformable_detr
from proseco.weights import huggingface
from tests import tiny

#: Of both; what a variant does not change. 64 wide: with one channel a group, GroupNorm would hide a bias before it.
OPTIONS = tiny.SIZES | {"width": 64, "box_refinement": False, "two_stage": False}
COPIES = ("model.decoder.bbox_embed.", "model.decoder.class_embed.")


def detector(changes, *, stirred, noise=0.1):
    """Ours in eval mode. Stirred: every weight moved, and the statistics of the frozen batch norm as well."""
    torch.manual_seed(0)
    model = deformable_detr.build(**OPTIONS | changes).eval()
    if stirred:
        tiny.stir(model, noise=noise)
        draws = torch.Generator().manual_seed(1)
        for name, buffer in model.named_buffers():
            moved = (
                torch.rand(buffer.shape, generator=draws)
                if "var" in name
                else torch.randn(buffer.shape, generator=draws)
            )
            buffer += 0.3 * moved
    return model


def reference(model, changes, folder):
    """transformers' model with the same weights, in eval mode, every parameter with gradient."""
    options = OPTIONS | changes
    names = [f"class {index}" for index in range(options["num_classes"])]
    state = {key: value.clone() for key, value in huggingface.rename(model.state_dict()).items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = huggingface.config(options, names)
    if options["box_refinement"] and not options["two_stage"]:
        config["tie_word_embeddings"] = False  # else it makes equal class heads one, which then learn together
    (folder / "config.json").write_text(json.dumps(config))
    theirs, loading = DeformableDetrForObjectDetection.from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values()), loading
    theirs.config.auxiliary_loss = True  # else it gives the last layer alone
    return theirs.eval().requires_grad_(True)


def batch(sizes=((64, 96), (48, 84), (57, 61)), boxes=(3, 0, 2), classes=5, seed=0):
    """Images of different sizes on one canvas that none of them need fill."""
    draws = torch.Generator().manual_seed(seed)
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    images = torch.randint(0, 256, (1, len(sizes), 3, height, width), dtype=torch.uint8, generator=draws)
    mask = torch.ones(len(sizes), height, width, dtype=torch.bool)
    for row, (h, w) in zip(mask, sizes, strict=True):
        row[:h, :w] = False
    made = tiny.batch(boxes, views=1, classes=classes, seed=seed)
    return Batch(made.keys, images.masked_fill(mask[:, None], 0), mask, made.boxes, made.labels, made.sizes)


def outputs(theirs, images, mask, targets):
    """Logits and boxes of every layer, and the first stage's, as ours has them. images (B, 3, H, W) normalised."""
    labels = [{"class_labels": t["labels"], "boxes": t["boxes"]} for t in targets]
    out = theirs(images, pixel_mask=(~mask).long(), labels=labels)
    layers = [*((a["logits"], a["pred_boxes"]) for a in out.auxiliary_outputs), (out.logits, out.pred_boxes)]
    logits, boxes = (torch.stack(values) for values in zip(*layers, strict=True))
    found = {"logits": logits, "boxes": boxes}
    if out.enc_outputs_class is not None:
        found["encoder"] = {"logits": out.enc_outputs_class, "boxes": out.enc_outputs_coord_logits.sigmoid()}
    return found


def gradients(theirs):
    """Name in transformers' files -> gradient. The decoder's copies of the heads are left out."""
    old = (("model.backbone.", "model.backbone.conv_encoder."), (".self_attn.o_proj.", ".self_attn.out_proj."))
    old += ((".mlp.fc", ".fc"),)
    found = {}
    for name, parameter in theirs.named_parameters(remove_duplicate=False):
        for new, before in old:
            name = name.replace(new, before)
        found[name] = parameter.grad
    return without_copies(found)


def without_copies(grads):
    return {name: value for name, value in grads.items() if not name.startswith(COPIES)}


def set_loss(out, targets, weights):
    """transformers' criterion: the terms summed over layers, and over the first stage, which learns label 0."""
    matcher = DeformableDetrHungarianMatcher(
        class_cost=weights["class"], bbox_cost=weights["coord"], giou_cost=weights["giou"]
    )
    criterion = DeformableDetrImageLoss(matcher, out["logits"].shape[-1], 0.25, ["labels", "boxes"])
    labels = [{"class_labels": t["labels"], "boxes": t["boxes"]} for t in targets]
    *earlier, last = (
        {"logits": logits, "pred_boxes": boxes} for logits, boxes in zip(out["logits"], out["boxes"], strict=True)
    )
    losses = [criterion({**last, "auxiliary_outputs": earlier}, labels)]
    if "encoder" in out:
        objects = [{**t, "class_labels": torch.zeros_like(t["class_labels"])} for t in labels]
        first = {"logits": out["encoder"]["logits"], "pred_boxes": out["encoder"]["boxes"]}
        losses.append(criterion(first, objects))
    names = {"loss_ce": "class", "loss_bbox": "coord", "loss_giou": "giou"}
    sums = dict.fromkeys(names.values(), 0.0)
    for found in losses:
        for key, value in found.items():
            term = names[key.rstrip("_0123456789")]
            sums[term] = sums[term] + weights[term] * value
    return sums


def worst(ours, theirs):
    """Largest difference of gradients of the same names, each relative to its largest entry, and where it is.

    That of the keys' bias is 0 in exact arithmetic, for a softmax does not see it: both must be next to nothing.
    """
    assert ours.keys() == theirs.keys()
    found = []
    for key, expected in theirs.items():
        size = expected.abs().max().item()
        if key.endswith("self_attn.k_proj.bias"):
            size = theirs[key.replace("k_proj", "q_proj")].abs().max().item()
        gap = (ours[key] - expected).abs().max().item()
        found.append((gap / size if gap else 0.0, key))  # 0 against 0: behind layers that begin at 0
    return max(found)


def distance(ours, theirs):
    """Of all gradients as one vector, relative to its length."""
    gap = sum((ours[key] - theirs[key]).square().sum().item() for key in theirs)
    return (gap / sum(value.square().sum().item() for value in theirs.values())) ** 0.5

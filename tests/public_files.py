"""Files as the Deformable DETR and DETReg programs write them, made here."""

import argparse
import os

import torch

from tests import tiny

#: Options of those programs that say something about the network, and two of their many others.
ARGS = {"nheads": 4, "dropout": 0.1, "num_queries": 6, "enc_n_points": 3, "dec_n_points": 3, "dilation": False}
ARGS |= {"lr": 2e-4, "lr_backbone_names": ["backbone.0"]}


def content(model, *, prefix="", extra=None, dtype=torch.float32, **args):
    """Weights, optimizer, schedule, epoch, arguments. The public models have the counters of batch norm, too."""
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    state = {name: value.to(dtype) for name, value in state.items()} | (extra or {})
    state |= {n.replace("running_var", "num_batches_tracked"): torch.tensor(7) for n in state if "running_var" in n}
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    optimizer = torch.optim.AdamW([weight])
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 40)
    optimizer.step()
    return {
        "model": {prefix + name: value for name, value in state.items()},
        "optimizer": optimizer.state_dict(),
        "lr_scheduler": schedule.state_dict(),
        "epoch": 49,
        "args": argparse.Namespace(**ARGS | args),
    }


def detreg(model, **options):
    """DETReg's: an object embedding beside the detector."""
    embed = {"feature_embed.layers.0.weight": torch.ones(32, 32), "feature_embed.layers.1.bias": torch.ones(16)}
    return content(model, extra=embed, object_embedding_loss=True, **options)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def plain_detr():
    """Some names and shapes of DETR's."""
    return {
        "transformer.encoder.layers.0.self_attn.in_proj_weight": torch.ones(96, 32),
        "transformer.decoder.layers.0.multihead_attn.in_proj_weight": torch.ones(96, 32),
        "query_embed.weight": torch.ones(100, 32),
        "class_embed.weight": torch.ones(92, 32),
        **{f"backbone.0.body.{name}": value for name, value in tiny.detector().backbone[0].body.state_dict().items()},
    }

"""Deformable DETR in the names of ``transformers``: what ``DeformableDetrForObjectDetection.from_pretrained`` reads.

The names are those in its files; version 5 has others in memory. ``transformers`` itself is not needed.
"""

import re

from torch import Tensor

_BACKBONE = "model.backbone.conv_encoder.model."
_NORMS = {"encoder": {"1": "self_attn", "2": "final"}, "decoder": {"1": "encoder_attn", "2": "self_attn", "3": "final"}}
# Applied to each name in this order: first what is for the backbone's names, then what is for the transformer's.
_RENAMES = (
    (r"^backbone\.0\.body\.conv1\.", f"{_BACKBONE}embedder.embedder.convolution."),
    (r"^backbone\.0\.body\.bn1\.", f"{_BACKBONE}embedder.embedder.normalization."),
    (r"^backbone\.0\.body\.layer(\d)\.(\d+)\.", lambda m: f"{_BACKBONE}encoder.stages.{int(m[1]) - 1}.layers.{m[2]}."),
    (r"^(model\.backbone\..*)\.downsample\.0\.", r"\1.shortcut.convolution."),
    (r"^(model\.backbone\..*)\.downsample\.1\.", r"\1.shortcut.normalization."),
    (r"^(model\.backbone\..*)\.conv(\d)\.", lambda m: f"{m[1]}.layer.{int(m[2]) - 1}.convolution."),
    (r"^(model\.backbone\..*)\.bn(\d)\.", lambda m: f"{m[1]}.layer.{int(m[2]) - 1}.normalization."),
    (r"^query_embed\.", "model.query_position_embeddings."),
    (r"^(input_proj|transformer)\.", lambda m: "model." if m[1] == "transformer" else "model.input_proj."),
    (r"^(model\.\w+\.layers\.\d+)\.cross_attn\.", r"\1.encoder_attn."),
    (r"^(model\.\w+\.layers\.\d+)\.linear(\d)\.", r"\1.fc\2."),
    (r"^(model\.(\w+)\.layers\.\d+)\.norm(\d)\.", lambda m: f"{m[1]}.{_NORMS[m[2]][m[3]]}_layer_norm."),
)
_QKV = re.compile(r"^(model\.decoder\.layers\.\d+\.self_attn\.)in_proj_(weight|bias)$")


def rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights (or their gradients) under the public names -> under those of ``transformers``.

    One kind of tensor becomes three: the projection of queries, keys and values in the decoder's self-attention.
    """
    renamed = {}
    for key, value in state.items():
        for pattern, new in _RENAMES:
            key = re.sub(pattern, new, key)
        packed = _QKV.match(key)
        if packed:
            thirds = zip("qkv", value.chunk(3), strict=True)
            renamed |= {f"{packed[1]}{letter}_proj.{packed[2]}": third for letter, third in thirds}
        else:
            renamed[key] = value
    return renamed


def config(options: dict, classes: list[str]) -> dict:
    """The content of a detector's ``config.json``.

    :param options: all keywords of :func:`proseco.detectors.deformable_detr.build` that shape the network.
    :param classes: names, in the order of the class head's rows.
    """
    body, levels = options["backbone"], options["levels"]
    bottleneck = body["block"] == "bottleneck"
    stages = ["stage2", "stage3", "stage4"]
    backbone = {
        "model_type": "resnet",
        "layer_type": body["block"],
        "depths": list(body["layers"]),
        "embedding_size": body["stem"],
        "hidden_sizes": [width * (4 if bottleneck else 1) for width in body["widths"]],
        "hidden_act": "relu",
        "out_features": stages[:levels] if levels > 1 else stages[-1:],
    }
    names = ("encoder", "decoder")
    sides = {f"{side}_layers": options[f"{side}_layers"] for side in names}
    sides |= {f"{side}_attention_heads": options["heads"] for side in names}
    sides |= {f"{side}_ffn_dim": options["ffn"] for side in names}
    sides |= {f"{side}_n_points": options["points"] for side in names}
    return sides | {
        "architectures": ["DeformableDetrForObjectDetection"],
        "model_type": "deformable_detr",
        "backbone": None,
        "backbone_config": backbone,
        "use_timm_backbone": False,
        "use_pretrained_backbone": False,
        "d_model": options["width"],
        "dropout": options["dropout"],
        "attention_dropout": options["dropout"],
        "activation_dropout": options["dropout"],
        "num_feature_levels": levels,
        "num_queries": options["queries"],
        "two_stage_num_proposals": options["queries"],
        "with_box_refine": options["box_refinement"],
        "two_stage": options["two_stage"],
        "class_cost": 2,
        "id2label": {str(index): name for index, name in enumerate(classes)},
        "label2id": {name: index for index, name in enumerate(classes)},
        # transformers ties the decoder's copy of the box heads, and all heads where boxes are not refined. With one
        # layer it finds nothing to tie and raises an error.
        "tie_word_embeddings": options["decoder_layers"] > 1,
    }

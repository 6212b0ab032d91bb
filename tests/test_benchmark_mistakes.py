"""A wrong option of a benchmark is one line, before anything is timed. That it is printed so is the command line's."""

import importlib
import os
from pathlib import Path

import pytest
import torch

from proseco.base.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
EMPTY = "{empty}"  # a folder
MISTAKES = [
    ("deformable_attention", {"rounds": 0}, "--rounds is 0; it must be at least 1"),
    ("deformable_attention", {"backward": "4x1"}, "--backward is '4x1'; it is of the Triton kernels and needs"),
    ("finetune_step", {"objects": 0}, "--objects is 0; it must be at least 1"),
    ("finetune_step", {"scale": "large"}, "no scale named 'large'; there is demo, paper (params.yaml)"),
    ("locsce", {"dim": 0}, "--dim is 0; it must be at least 1"),
    ("matching", {"rounds": 0}, "--rounds is 0; it must be at least 1"),
    ("padding", {"images": EMPTY, "method": "soco"}, "all views of 'soco' have one size: none of a batch is padding"),
    ("pretrain_step", {"peer_batch": 0}, "--peer-batch is 0; it must be at least 1"),
    ("pretrain_step", {"batch": 4, "peer_batch": 5}, "--peer-batch is 5; the peer takes it of a batch of 4"),
    ("pretrain_step", {"peer_batch": 2, "ours_alone": True}, "--peer-batch is 2; there is no peer with --ours-alone"),
    ("pretrain_step", {"steps": 0}, "--steps is 0; it must be at least 1"),
    ("pretrain_step", {"scale": "large"}, "no scale 'large'; there are demo, paper (params.yaml)"),
    ("sampling_code", {"forward": "8x3"}, "--forward is '8x3'; it must be queries x warps, both powers of two"),
    ("sampling_code", {"backward": "8"}, "--backward is '8'; it must be queries x warps, both powers of two"),
    ("sampling_code", {"capability": 12}, "no compute capability named 12; there is 80, 90 (--capability)"),
    ("scoring", {"images": 0}, "--images is 0 and --rounds 3; both must be at least 1"),
    ("selective_search", {"images": EMPTY}, "no images in "),
    ("shards", {"shards": EMPTY}, "no shards in "),
    ("views", {"images": EMPTY, "limit": 0}, "--limit is 0; it must be at least 1"),
    ("views", {"images": EMPTY, "draws": 0}, "--draws is 0"),
    ("views", {"images": EMPTY}, "no images in "),
]


@pytest.mark.parametrize(("name", "options", "message"), MISTAKES)
def test_a_mistake_is_one_line(name, options, message, tmp_path, monkeypatch):
    if name == "sampling_code":
        pytest.importorskip("triton")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: None, raising=False)
    threads = torch.get_num_threads()
    given = {key: str(tmp_path) if value == EMPTY else value for key, value in options.items()}
    with pytest.raises(InputError) as caught:
        importlib.import_module(f"benchmarks.{name}").main(**given)
    torch.set_num_threads(threads)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)

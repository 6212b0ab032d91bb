import torch

from proseco.nn import position
from tests.oracles import sine_oracle

H, W, D = 4, 6, 8


def test_sine_is_the_loops_over_the_part_without_padding():
    mask = torch.ones(3, H, W, dtype=torch.bool)
    parts = [(4, 6), (2, 6), (3, 1)]
    for image, (h, w) in enumerate(parts):
        mask[image, :h, :w] = False
    ours = position.sine(mask, D)
    assert ours.shape == (3, D, H, W)
    assert ours.dtype == torch.float32
    assert ours.isfinite().all()
    for image, (h, w) in enumerate(parts):
        truth = torch.from_numpy(sine_oracle(h, w, D)).float()
        assert torch.allclose(ours[image, :, :h, :w], truth, atol=1e-4)


def test_the_first_half_is_y():
    code = position.sine(torch.zeros(1, H, W, dtype=torch.bool), D)[0]
    assert torch.equal(code[: D // 2, :, 0], code[: D // 2, :, -1])  # the same in every column
    assert torch.equal(code[D // 2 :, 0], code[D // 2 :, -1])  # the same in every row
    assert (code[: D // 2, 0] != code[: D // 2, -1]).any()


def test_a_lower_temperature_turns_faster():
    mask = torch.zeros(1, H, W, dtype=torch.bool)
    truth = torch.from_numpy(sine_oracle(H, W, D, temperature=20.0)).float()
    assert torch.allclose(position.sine(mask, D, temperature=20.0)[0], truth, atol=1e-4)

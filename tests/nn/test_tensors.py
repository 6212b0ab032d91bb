import torch

from proseco.nn.tensors import pad


def test_pad():
    rows = [torch.ones(2, 4), torch.zeros(0, 4), torch.full((3, 4), 2.0)]
    padded = pad(rows)
    assert padded.shape == (3, 3, 4)
    assert padded.sum((1, 2)).tolist() == [8, 0, 24]
    assert padded[0, 2].eq(0).all()
    assert pad([torch.zeros(0, dtype=torch.int64)] * 2).shape == (2, 0)
    assert pad([torch.tensor([3, 4]), torch.tensor([5])]).tolist() == [[3, 4], [5, 0]]

import torch

from proseco.nn.heads import MLP


def test_mlp_is_its_layers_with_relu_between():
    torch.manual_seed(0)
    head = MLP(5, 7, 4, 3)
    assert {name: tuple(p.shape) for name, p in head.named_parameters() if name.endswith("weight")} == {
        "layers.0.weight": (7, 5),
        "layers.1.weight": (4, 7),
        "layers.2.weight": (3, 4),
    }
    x = torch.randn(2, 6, 5)
    ours = head(x)
    assert ours.shape == (2, 6, 3)
    for row in range(2):
        for query in range(6):
            value = x[row, query].tolist()
            for number, layer in enumerate(head.layers):
                lines = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
                value = [sum(w * v for w, v in zip(line, value, strict=True)) + b for line, b in lines]
                if number < 2:
                    value = [max(v, 0.0) for v in value]
            assert torch.allclose(ours[row, query], torch.tensor(value), atol=1e-5)
    assert ours.min() < 0  # nothing after the last layer


def test_one_layer_is_linear():
    head = MLP(4, 2)
    x = torch.randn(3, 4)
    assert torch.equal(head(x), head.layers[0](x))

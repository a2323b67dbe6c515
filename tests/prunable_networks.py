"""Small prunable networks whose batch-norms are not neutral, and random images for
them.
"""

import torch
from torch import Tensor, nn

from robustbook.models.prunable import Prunable, build, preact_resnet, vgg

SHAPES = {
    "lenet3": (1, 8, 8),
    "vgg": (3, 16, 16),
    "preact-resnet": (3, 16, 16),
    "resnet20": (3, 16, 16),
}


def network(name: str, seed: int = 0) -> Prunable:
    model = build(name, SHAPES[name], 10, seed)
    if name == "vgg":
        model = vgg(SHAPES[name], 10, widths=(4, 5, 6, 7))
    if name == "preact-resnet":
        model = preact_resnet(SHAPES[name], 10, width=4, blocks=(2, 1, 2))
    return disturbed(model, seed)


def disturbed(model: Prunable, seed: int) -> Prunable:
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            size = module.num_features
            module.weight.data = 0.5 + torch.rand(size, generator=generator)
            module.bias.data = torch.randn(size, generator=generator) / 2
            module.running_mean = torch.randn(size, generator=generator) / 5
            module.running_var = 0.5 + torch.rand(size, generator=generator)
    return model.eval()


def batch(name: str, count: int = 12, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *SHAPES[name], generator=generator), torch.randint(
        10, (count,), generator=generator
    )

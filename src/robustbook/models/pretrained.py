"""Networks with published weights for photographs, read from the data root: SqueezeNet
for inputs in [0, 1].
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, nn

from robustbook.data.store import DataError, data_root

SQUEEZENET_FILE = "weights/squeezenet1_0_deep_compression/squeezenet1_0_state_dict.npz"
SQUEEZENET_DIGEST = "5cc9bcb8011a95f5d385b271e23cc579e0b2a22fa07812d0a51f4130fac545ff"
CHANNEL_MEANS = (104.0, 117.0, 123.0)
"""Blue, green, red; what the published network subtracts from grey levels 0..255."""


class BlueFirst(nn.Module):
    """RGB in [0, 1] to the published network's input: BGR, 0..255, less the channels'
    means.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer(
            "means", torch.tensor(CHANNEL_MEANS)[:, None, None], persistent=False
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W), any height and width."""
        return images.flip(1) * 255 - self.get_buffer("means")


def squeezenet() -> nn.Sequential:
    """SqueezeNet 1.0 after deep compression (Han et al. 2016), for images (N, 3, 227,
    227) in [0, 1]; in eval mode.

    Raises DataError if the file is missing or is not the pinned one.
    """
    from torchvision.models import squeezenet1_0

    path = data_root() / SQUEEZENET_FILE
    if not path.is_file():
        raise DataError(
            f"{SQUEEZENET_FILE} is not in the data root: get it from "
            "github.com/songhan/SqueezeNet-Deep-Compression"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != SQUEEZENET_DIGEST:
        raise DataError(
            f"{SQUEEZENET_FILE} does not have its pinned digest: remove it and get "
            "it again"
        )
    model = squeezenet1_0(weights=None)
    with np.load(path, allow_pickle=False) as arrays:
        model.load_state_dict(
            {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        )
    return nn.Sequential(BlueFirst(), model).eval()

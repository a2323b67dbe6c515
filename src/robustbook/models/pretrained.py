"""Networks with published weights for photographs, read from the data root: SqueezeNet
for inputs in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robustbook.data.store import DataError, DataFile, verified

SQUEEZENET = "squeezenet"
SQUEEZENET_TITLE = "SqueezeNet 1.0 after deep compression"
SQUEEZENET_LICENCE = "BSD (songhan/SqueezeNet-Deep-Compression)"
SQUEEZENET_FILE = DataFile(
    "weights/squeezenet1_0_deep_compression/compressed_SqueezeNet.net",
    "e4ab6960ae8cd81505e1c2136921201507e930966c53deaf15862a395b3a3261",
)
CODES = 256
"""Values that the weights of a layer may have; a code of 8 bits names one of them."""
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

    path = verified(SQUEEZENET, SQUEEZENET_TITLE, SQUEEZENET_FILE)
    model = squeezenet1_0(weights=None)
    shapes = {name: tuple(each.shape) for name, each in model.state_dict().items()}
    found = decode(path.read_bytes(), shapes)
    model.load_state_dict({name: torch.from_numpy(found[name]) for name in shapes})
    return nn.Sequential(BlueFirst(), model).eval()


def decode(
    content: bytes, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[np.float32]]:
    """Weights by name from a network in the format of deep compression, 8 bits a code;
    `shapes` are those of weight and bias of each layer, in the order of the layers.

    The file begins with the number of stored weights of each layer. Then follow, layer
    by layer, 256 values, the bias, a code of 8 bits for each stored weight, and in 4
    bits how many weights are left out before it. A weight left out has code 0.

    Raises DataError where the content does not fit the shapes.
    """
    names = list(shapes)
    layers = list(zip(names[::2], names[1::2], strict=True))
    try:
        counts = np.frombuffer(content, "<u4", len(layers))
        place, found = counts.nbytes, {}
        for count, (weight, bias) in zip(counts.tolist(), layers, strict=True):
            size = math.prod(shapes[bias])
            values = np.frombuffer(content, "<f4", CODES + size, place)
            place += values.nbytes
            codes = np.frombuffer(content, np.uint8, count, place)
            gaps = np.frombuffer(content, np.uint8, (count + 1) // 2, place + count)
            place += codes.nbytes + gaps.nbytes
            halves = np.stack([gaps % 16, gaps // 16], axis=1).ravel()[:count]
            whole = np.zeros(math.prod(shapes[weight]), np.uint8)
            whole[np.cumsum(halves.astype(np.int64) + 1) - 1] = codes
            found[weight] = values[whole].reshape(shapes[weight])
            found[bias] = values[CODES:].reshape(shapes[bias]).copy()
    except (ValueError, IndexError) as failure:
        raise DataError(f"the network's file cannot be read: {failure}") from failure
    if place != len(content):
        raise DataError("the network's file does not end where its last layer does")
    return found

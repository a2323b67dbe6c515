"""Networks: how they are built, trained and kept.

Read `architectures` (what a network is made of), then `network` (how any network is
run), `training` (one loop, four ways to make the loss) and `checkpoints` (nothing is
trained twice). Networks of single studies: `four_view` (mammograms), `prunable` (gates
on every unit) and `pretrained` (published weights); `folded` makes any of them faster,
`input_convolution` their gradients.
"""

from robustbook.models.architectures import ARCHITECTURES, Scale, build, parameter_count

__all__ = ["ARCHITECTURES", "Scale", "build", "parameter_count"]

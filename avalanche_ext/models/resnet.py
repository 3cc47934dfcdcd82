"""GEM's reduced ResNet-18 for images of any size."""

from __future__ import annotations

from avalanche.models.slim_resnet18 import BasicBlock, ResNet
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, relu

_DOWNSAMPLING = 8
_WIDENING = 8
_POOLED = 4


class ReducedResNet18(ResNet):  # type: ignore[misc]
    """GEM's reduced ResNet-18 (Lopez-Paz and Ranzato 2017) for images of any size.

    It has the blocks of Avalanche's ResNet, which accepts only 32×32 pixels. Features are averaged
    over squares of 4×4, so larger images have more features: 640 for 84×84 pixels and width 20, as
    for mini-ImageNet in the papers.

    Args:
        n_classes: Number of outputs.
        width: Number of channels of the first block.
        image_size: Height and width of the images, each at least 25 pixels.
    """

    def __init__(self, n_classes: int, width: int, image_size: tuple[int, int]) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], n_classes, width)
        pooled = [-(-size // _DOWNSAMPLING) // _POOLED for size in image_size]
        n_features = width * _WIDENING * pooled[0] * pooled[1]
        self.linear = nn.Linear(n_features, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, n_classes) of images (B, 3, H, W)."""
        out = relu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            out = layer(out)
        logits: Tensor = self.linear(avg_pool2d(out, _POOLED).flatten(1))
        return logits

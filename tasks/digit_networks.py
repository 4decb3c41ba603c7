"""Networks that see the image of a number, a row of digits, and give it one score."""

from __future__ import annotations

from torch import Tensor, nn


class Whole(nn.Sequential):
    """Convolutions over the whole image: the network of Petersen et al. (ICML 2021).  # (N, 1, 28, digits * 28) -> (N, 1)"""

    def __init__(self, digits: int, channels: int):
        super().__init__(
            *(nn.Conv2d(1, channels, 5, padding=2), nn.MaxPool2d(2), nn.ReLU()),  # rectified last: a quarter of the work
            *(nn.Conv2d(channels, 2 * channels, 5, padding=2), nn.MaxPool2d(2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(2 * channels * 7 * 7 * digits, 64), nn.ReLU(), nn.Linear(64, 1)),
        )


class Shared(nn.Module):
    """Every digit is read by the same network, and what was read is put together: what is learned of one digit is known of all.

    Convolutions have strides in the place of pooling.  # (N, 1, 28, digits * 28) -> (N, 1)
    """

    read = 32  # features of a digit

    def __init__(self, digits: int, channels: int):
        super().__init__()
        self.digits = digits
        self.digit = nn.Sequential(
            *(nn.Conv2d(1, channels, 6, stride=2), nn.ReLU(), nn.Conv2d(channels, 2 * channels, 4, stride=2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(2 * channels * 5 * 5, 64), nn.ReLU(), nn.Linear(64, self.read), nn.ReLU()),
        )
        self.number = nn.Sequential(nn.Linear(digits * self.read, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, images: Tensor) -> Tensor:
        apart = images.unflatten(-1, (self.digits, -1)).movedim(3, 1)  # (N, digits, 1, 28, 28)
        return self.number(self.digit(apart.flatten(0, 1)).view(len(images), -1))


NETWORKS: dict[str, type[Whole] | type[Shared]] = {"whole": Whole, "shared": Shared}

"""Networks that sort numbers: each gives tanh units that a solver may make hard, and reads the order from them.

`Dense` is the paper's and must learn every order by itself. The others treat all elements alike, so what is learned of one is
known of all; their `bits` are shared out evenly among the elements.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """A network for `n` numbers with layers of `width` units, the last before the solver of `bits`."""

    def __init__(self, n: int, width: int, bits: int):
        super().__init__()
        self.n = n

    def scores(self, numbers: Tensor) -> Tensor:
        """Units in (-1, 1).  # (B, n) -> (B, bits)"""
        raise NotImplementedError

    def logits(self, bits: Tensor) -> Tensor:
        """How likely an element stands at a position.  # (B, bits) -> (B, element, position)"""
        raise NotImplementedError


class Dense(Network):
    """Dense layers with tanh: the encoder and decoder of Ramapuram & Webb (2020)."""

    def __init__(self, n: int, width: int, bits: int):
        super().__init__(n, width, bits)
        self.encoder = nn.Sequential(
            nn.Linear(n, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, bits), nn.Tanh()
        )
        self.decoder = nn.Linear(bits, n * n)

    def scores(self, numbers: Tensor) -> Tensor:  # (B, n) -> (B, bits)
        return self.encoder(numbers)

    def logits(self, bits: Tensor) -> Tensor:  # (B, bits) -> (B, n, n)
        return self.decoder(bits).unflatten(1, (self.n, self.n))


class Equivariant(Network):
    """What networks share that treat all elements alike: features of each become its units, and those point at a position."""

    def __init__(self, n: int, width: int, bits: int, features: int):
        super().__init__(n, width, bits)
        if bits % n:
            raise ValueError(
                f"setting bits={bits}: network {type(self).__name__.lower()!r} gives each of n={n} elements equally many; "
                f"take a multiple of {n}."
            )
        self.encoder = nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, bits // n), nn.Tanh())
        self.decoder = nn.Linear(bits // n, n)

    def features(self, numbers: Tensor) -> Tensor:
        """What each element knows of itself and of the others; the numbers are centred.  # (B, n) -> (B, n, features)"""
        raise NotImplementedError

    def scores(self, numbers: Tensor) -> Tensor:  # (B, n) -> (B, bits)
        return self.encoder(self.features(numbers - 0.5)).flatten(1)

    def logits(self, bits: Tensor) -> Tensor:  # (B, bits) -> (B, n, n)
        return self.decoder(bits.unflatten(1, (self.n, -1)))


class Relation(Equivariant):
    """Each element is compared with all (relation network: Santoro et al., NeurIPS 2017): tanh units of every pair, averaged.

    What a unit does with the two numbers of a pair is learned from random weights. They are in units of `sharpness`, so that
    close numbers differ from the start, and steps are in proportion.
    """

    units, sharpness = 32, 500.0

    def __init__(self, n: int, width: int, bits: int):
        super().__init__(n, width, bits, self.units)
        self.own, self.other = (nn.Parameter(torch.empty(self.units).uniform_(-1, 1)) for _ in range(2))
        self.bias = nn.Parameter(torch.empty(self.units).uniform_(-1, 1))

    def features(self, numbers: Tensor) -> Tensor:
        x = self.sharpness * numbers.unsqueeze(-1)
        pairs = (x * self.own + self.bias).unsqueeze(2) + (x * self.other).unsqueeze(1)  # (B, n, n, units)
        return pairs.tanh().mean(2)


class Attention(Equivariant):
    """A transformer without positions; the decoder points at elements as pointer networks do (Vinyals et al., NeurIPS 2015)."""

    heads, layers, sharpness = 4, 2, 10.0

    def __init__(self, n: int, width: int, bits: int):
        super().__init__(n, width, bits, width)
        self.embed = nn.Linear(1, width)
        layer = nn.TransformerEncoderLayer(width, self.heads, 2 * width, dropout=0.0, batch_first=True)
        self.mix = nn.TransformerEncoder(layer, self.layers, enable_nested_tensor=False)

    def features(self, numbers: Tensor) -> Tensor:
        return self.mix(self.embed(self.sharpness * numbers.unsqueeze(-1)).tanh())


NETWORKS: dict[str, type[Network]] = {"dense": Dense, "relation": Relation, "attention": Attention}

"""Image data sets in their official formats: MNIST, Fashion-MNIST, binarised MNIST, Omniglot, CIFAR-10."""

from __future__ import annotations

import gzip
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .data import DataError, fetch, find
from .specs import choose


@dataclass(frozen=True)
class ImageSet:
    """Images `(N, C, H, W)` uint8 and their classes `(N,)` int64. `note` says what the data are, above all if a substitute."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    note: str


_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_IDX = {  # file -> MD5, as their owners give them
    "mnist": (
        _MNIST,
        {
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion_mnist": (
        _FASHION,
        {
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
}
_CIFAR = "cifar-10-python.tar.gz"
_CIFAR_AT = f"https://www.cs.toronto.edu/~kriz/{_CIFAR}"
_CIFAR_MD5 = "c58f30108f718f92721af3b95e74349a"
_OMNIGLOT = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
_OMNIGLOT_ZIPS = {
    "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
}


@lru_cache(maxsize=2)
def load_images(name: str) -> ImageSet:
    """A data set by name, one of `IMAGE_SETS`; raises DataError where it can be neither found nor downloaded."""
    return IMAGE_SETS[choose("image data set", name, IMAGE_SETS)]()


def read_idx(file: Path) -> Tensor:
    """An array of bytes in the format of MNIST, packed with gzip.  # -> (N, ...) uint8"""
    content = gzip.decompress(file.read_bytes())
    dimensions = content[3] if content[:3] == b"\0\0\x08" else 0
    shape = np.frombuffer(content, ">u4", dimensions, offset=4).astype(np.int64)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if not dimensions or values.size != shape.prod():
        raise DataError(f"{file} is not an idx file of bytes; delete it, and it is downloaded anew.")
    return torch.from_numpy(values.reshape(shape).copy())


def _idx_set(name: str, note: str) -> ImageSet:
    address, files = _IDX[name]
    arrays = [read_idx(fetch(name, file, address + file, f"md5:{md5}")) for file, md5 in files.items()]
    train, train_labels, test, test_labels = arrays
    return ImageSet(train.unsqueeze(1), train_labels.long(), test.unsqueeze(1), test_labels.long(), note)


def _mnist() -> ImageSet:
    return _idx_set("mnist", "MNIST")


def _fashion_mnist() -> ImageSet:
    return _idx_set("fashion_mnist", "Fashion-MNIST")


def _mnist_binarized() -> ImageSet:
    """Every pixel is white with the chance that its grey says, drawn once; the last 10,000 training images are left out."""
    grey = _mnist()
    random = np.random.Generator(np.random.PCG64(20090101))

    def binarise(images: Tensor) -> Tensor:
        return 255 * (torch.from_numpy(random.integers(0, 255, tuple(images.shape), np.uint8)) < images).to(torch.uint8)

    note = "MNIST, binarised once by a fixed seed (a substitute for the bits of Larochelle & Murray, 2011)"
    train, test = binarise(grey.train), binarise(grey.test)
    return ImageSet(train[:50_000], grey.train_labels[:50_000], test, grey.test_labels, note)


def _omniglot() -> ImageSet:
    """All 1,623 characters at 28 x 28, ink white; the classes are the characters, drawers 16 to 20 are the test."""
    ready = find("omniglot", "omniglot28.npz")
    note = "Omniglot at 28 x 28, split by drawer (a substitute for the file of Burda et al., 2016)"
    if ready is not None:
        with np.load(ready) as stored:
            parts = [torch.from_numpy(stored[f"{part}_x"]).unsqueeze(1) for part in ("train", "test")]
            classes = [torch.from_numpy(stored[f"{part}_char"].astype(np.int64)) - 1 for part in ("train", "test")]
        return ImageSet(parts[0], classes[0], parts[1], classes[1], note)
    files = [fetch("omniglot", file, _OMNIGLOT + file, f"md5:{md5}") for file, md5 in _OMNIGLOT_ZIPS.items()]
    images, labels, drawers = read_omniglot(files)
    seen = drawers <= 15
    return ImageSet(images[seen], labels[seen], images[~seen], labels[~seen], note)


def read_omniglot(files: list[Path]) -> tuple[Tensor, Tensor, Tensor]:
    """The official archives.  # -> images (N, 1, 28, 28) uint8, characters (N,), drawers (N,) from 1"""
    from PIL import Image

    images, characters, drawers = [], [], []
    for file in files:
        with zipfile.ZipFile(file) as archive:
            for name in sorted(n for n in archive.namelist() if n.endswith(".png")):
                with archive.open(name) as stream:
                    small = Image.open(stream).convert("L").resize((28, 28), Image.Resampling.BOX)
                images.append(torch.from_numpy(255 - np.asarray(small)))
                characters.append(str(Path(name).parent))
                drawers.append(int(Path(name).stem.partition("_")[2]))
    order = {character: index for index, character in enumerate(dict.fromkeys(characters))}
    return torch.stack(images).unsqueeze(1), torch.tensor([order[c] for c in characters]), torch.tensor(drawers)


def _cifar10() -> ImageSet:
    subset = find("cifar10_subset", "labels_train10000_test1000.npy")
    if subset is not None and find("cifar10", _CIFAR) is None:
        return read_cifar10_subset(subset.parent)
    return read_cifar10(fetch("cifar10", _CIFAR, _CIFAR_AT, f"md5:{_CIFAR_MD5}"))


def read_cifar10(file: Path) -> ImageSet:
    """The official archive of pickled batches."""
    images: dict[str, list[Tensor]] = {"data": [], "test": []}
    labels: dict[str, list[int]] = {"data": [], "test": []}
    with tarfile.open(file) as archive:
        members = [m for m in archive.getmembers() if Path(m.name).name.startswith(("data_batch_", "test_batch"))]
        for member in sorted(members, key=lambda m: m.name):
            part = Path(member.name).name.partition("_")[0]
            stream = archive.extractfile(member)
            assert stream is not None
            batch = pickle.load(stream, encoding="bytes")  # a file of the owner, or one that the user put there
            images[part].append(torch.from_numpy(batch[b"data"]).view(-1, 3, 32, 32))
            labels[part] += batch[b"labels"]
    train, test = torch.cat(images["data"]), torch.cat(images["test"])
    return ImageSet(train, torch.tensor(labels["data"]), test, torch.tensor(labels["test"]), "CIFAR-10")


def read_cifar10_subset(folder: Path) -> ImageSet:
    """The first 10,000 training and 1,000 test images, 1,000 to a PNG, one image to a row."""
    from PIL import Image

    rows = [np.asarray(Image.open(folder / f"cifar10_batch_{part}.png").convert("RGB")) for part in (*range(10), 50)]
    images = torch.from_numpy(np.stack(rows)).view(-1, 32, 32, 3).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(np.load(folder / "labels_train10000_test1000.npy").astype(np.int64))
    note = "the first 10,000 training and 1,000 test images of CIFAR-10 (a substitute for all of it)"
    return ImageSet(images[:10_000], labels[:10_000], images[10_000:], labels[10_000:], note)


IMAGE_SETS: dict[str, Callable[[], ImageSet]] = {
    "mnist": _mnist,
    "fashion_mnist": _fashion_mnist,
    "mnist_binarized": _mnist_binarized,
    "omniglot": _omniglot,
    "cifar10": _cifar10,
}

"""Data sets: where they are looked for, their official formats on small made files, the real ones where they are."""

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from solverlayers.tasks import data, images


@pytest.fixture
def nowhere(tmp_path, monkeypatch) -> Path:
    """An empty data folder and an empty cache."""
    monkeypatch.setenv("SOLVERLAYERS_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(data, "cache", lambda: tmp_path / "cache")
    images.load_images.cache_clear()
    yield tmp_path
    images.load_images.cache_clear()


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def idx(array: np.ndarray) -> bytes:
    return gzip.compress(struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


def test_the_named_folder_goes_before_the_cache(nowhere):
    assert data.find("set", "file") is None
    cached = put(nowhere / "cache" / "set" / "file", b"cached")
    assert data.find("set", "file") == cached
    named = put(nowhere / "data" / "set" / "file", b"named")
    assert data.find("set", "file") == named


def test_a_file_is_downloaded_once_and_checked(nowhere, monkeypatch):
    import pooch

    calls = []

    def retrieve(url, known_hash, fname, path):
        calls.append(url)
        file = put(Path(path) / fname, b"content")
        if known_hash != f"md5:{hashlib.md5(b'content').hexdigest()}":
            file.unlink()
            raise ValueError("hash does not match")
        return str(file)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    right = f"md5:{hashlib.md5(b'content').hexdigest()}"
    first = data.fetch("set", "file", "https://example.org/file", right)
    assert first.read_bytes() == b"content"
    assert data.fetch("set", "file", "https://example.org/file", right) == first
    assert calls == ["https://example.org/file"]
    with pytest.raises(data.DataError) as caught:
        data.fetch("set", "other", "https://example.org/other", "md5:0")
    assert str(caught.value) == (
        f"cannot download https://example.org/other: hash does not match. Put other into {nowhere / 'cache' / 'set'}, "
        "or into set/ of the folder that SOLVERLAYERS_DATA names."
    )


def test_data_that_cannot_be_downloaded_say_where_they_are_from(nowhere):
    with pytest.raises(data.DataError) as caught:
        data.require("set", "file", "ask its owner at example.org")
    assert str(caught.value) == (
        f"the data set 'set' is not at hand (ask its owner at example.org). Put file into {nowhere / 'cache' / 'set'}, "
        "or into set/ of the folder that SOLVERLAYERS_DATA names."
    )


def test_an_unknown_set_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown image data set 'mnits' \(did you mean 'mnist'\?\)"):
        images.load_images("mnits")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_files(nowhere, name):
    random = np.random.default_rng(0)
    arrays = {"train": (random.integers(0, 256, (5, 28, 28), np.uint8), np.arange(5, dtype=np.uint8))}
    arrays["t10k"] = (random.integers(0, 256, (3, 28, 28), np.uint8), np.arange(3, dtype=np.uint8))
    for part, (pictures, labels) in arrays.items():
        put(nowhere / "data" / name / f"{part}-images-idx3-ubyte.gz", idx(pictures))
        put(nowhere / "data" / name / f"{part}-labels-idx1-ubyte.gz", idx(labels))
    found = images.load_images(name)
    assert torch.equal(found.train[:, 0], torch.from_numpy(arrays["train"][0]))
    assert torch.equal(found.test[:, 0], torch.from_numpy(arrays["t10k"][0]))
    assert found.test_labels.tolist() == [0, 1, 2]


def test_a_broken_idx_file_is_refused(tmp_path):
    file = put(tmp_path / "file.gz", idx(np.zeros((2, 3), np.uint8)))
    assert images.read_idx(file).shape == (2, 3)
    for content in (b"no array", idx(np.zeros((2, 3), np.uint8))):
        put(file, gzip.compress(gzip.decompress(content)[:-1]) if content[:2] == b"\x1f\x8b" else gzip.compress(content))
        with pytest.raises(data.DataError) as caught:
            images.read_idx(file)
        assert str(caught.value) == f"{file} is not an idx file of bytes; delete it, and it is downloaded anew."


def test_the_archive_of_cifar(tmp_path):
    random = np.random.default_rng(0)
    parts = {}
    file = tmp_path / "cifar.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for name in ("data_batch_2", "data_batch_1", "test_batch"):
            parts[name] = random.integers(0, 256, (2, 3072), np.uint8)
            content = pickle.dumps({b"data": parts[name], b"labels": [1, 2]})
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    found = images.read_cifar10(file)
    assert torch.equal(found.train[:2].flatten(1), torch.from_numpy(parts["data_batch_1"]))
    assert torch.equal(found.test.flatten(1), torch.from_numpy(parts["test_batch"]))
    assert found.train.shape == (4, 3, 32, 32)
    assert found.train_labels.tolist() == [1, 2, 1, 2]


def test_the_archives_of_omniglot(tmp_path):
    file = tmp_path / "images.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for character, drawer, ink in (("b", 20, 0), ("a", 1, 255), ("a", 16, 0)):
            picture = np.full((105, 105), 255, np.uint8)
            picture[:, :52] = ink
            stream = io.BytesIO()
            Image.fromarray(picture).convert("1").save(stream, "PNG")
            archive.writestr(f"images/alphabet/{character}/0001_{drawer:02d}.png", stream.getvalue())
    pictures, characters, drawers = images.read_omniglot([file])
    assert pictures.shape == (3, 1, 28, 28)
    assert characters.tolist() == [0, 0, 1]
    assert drawers.tolist() == [1, 16, 20]
    assert pictures[0].max() == 0
    assert pictures[1, 0, :, :13].min() == 255
    assert pictures[1, 0, :, 15:].max() == 0


@pytest.mark.skipif(not os.environ.get("SOLVERLAYERS_DATA"), reason="needs SOLVERLAYERS_DATA")
@pytest.mark.parametrize("name", list(images.IMAGE_SETS))
def test_the_real_sets(name):
    found = images.load_images(name)
    assert len(found.train) == len(found.train_labels) >= 10_000
    assert len(found.test) == len(found.test_labels) >= 1_000
    assert found.train.dtype == torch.uint8
    assert found.train_labels.min() == 0
    assert 0.01 < found.test.float().mean() / 255 < 0.6
    if name == "mnist_binarized":
        assert found.train.unique().tolist() == [0, 255]

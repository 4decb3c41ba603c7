"""Where data sets lie: the folder of `$SOLVERLAYERS_DATA`, the user's cache, or the owner's address, in this order."""

from __future__ import annotations

import os
from pathlib import Path


class DataError(ValueError):
    """A data set is not at hand, or not what it should be."""


def cache() -> Path:
    """The folder of downloaded data, that of `pooch` for this project."""
    import pooch

    return Path(pooch.os_cache("solverlayers"))


def find(dataset: str, file: str) -> Path | None:
    """The file of a data set in `$SOLVERLAYERS_DATA` or the cache; None if it is in neither."""
    roots = [Path(os.environ["SOLVERLAYERS_DATA"])] if os.environ.get("SOLVERLAYERS_DATA") else []
    return next((path for root in [*roots, cache()] if (path := root / dataset / file).exists()), None)


def fetch(dataset: str, file: str, url: str, checksum: str) -> Path:
    """The file of a data set, downloaded into the cache if need be and checked there.

    `checksum` is that of the file, such as `"md5:f68b..."`. Raises DataError where it can be neither found nor downloaded.
    """
    found = find(dataset, file)
    if found is not None:
        return found
    import pooch

    try:
        return Path(pooch.retrieve(url, known_hash=checksum, fname=file, path=cache() / dataset))
    except (OSError, ValueError) as error:  # no network; a file that is not the one it should be
        raise DataError(f"cannot download {url}: {error}. {_put(dataset, file)}") from error


def require(dataset: str, file: str, source: str) -> Path:
    """The file of a data set that cannot be downloaded freely; `source` says where a user gets it.

    Raises DataError, with the source, where it is not at hand.
    """
    found = find(dataset, file)
    if found is None:
        raise DataError(f"the data set {dataset!r} is not at hand ({source}). {_put(dataset, file)}")
    return found


def _put(dataset: str, file: str) -> str:
    return f"Put {file} into {cache() / dataset}, or into {dataset}/ of the folder that SOLVERLAYERS_DATA names."

"""Text files with line numbers, so that an error says where the file is wrong."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

File = str | os.PathLike[str]


class ReadError(ValueError):
    """A file is not what it should be; the message starts with its name and the number of the line."""


class Text:
    """A text file, also compressed (`.gz`), as numbered lines."""

    def __init__(self, file: File):
        self.path = Path(file)
        if not self.path.exists():
            raise FileNotFoundError(f"{self.path}: there is no such file.")
        raw = self.path.read_bytes()
        self.lines = (gzip.decompress(raw) if self.path.suffix == ".gz" else raw).decode("latin-1").splitlines()

    def numbered(self) -> Iterator[tuple[int, str]]:
        """The lines that are not empty, without white space around them, and their numbers from 1 on."""
        for number, line in enumerate(self.lines, 1):
            if line.strip():
                yield number, line.strip()

    def fail(self, number: int, text: str) -> NoReturn:
        raise ReadError(f"{self.path}:{number}: {text}")

    def integer(self, number: int, word: str, what: str) -> int:
        try:
            return int(word)
        except ValueError:
            self.fail(number, f"{what} is {word!r}; expected an integer.")

    def real(self, number: int, word: str, what: str) -> float:
        try:
            return float(word)
        except ValueError:
            self.fail(number, f"{what} is {word!r}; expected a number.")


class Words:
    """The words of a file one after the other, wherever its lines break."""

    def __init__(self, text: Text, words: list[tuple[int, str]] | None = None):
        self.text, self.place = text, 0
        self.words = words if words is not None else [(n, w) for n, line in text.numbered() for w in line.split()]

    def __len__(self) -> int:
        """How many words are left."""
        return len(self.words) - self.place

    @property
    def line(self) -> int:
        """The line of the next word, or the last one."""
        if not self.words:
            return max(len(self.text.lines), 1)
        return self.words[min(self.place, len(self.words) - 1)][0]

    def integer(self, what: str) -> int:
        number, word = self._take(1, what)[0]
        return self.text.integer(number, word, what)

    def count(self, what: str) -> int:
        """A positive integer."""
        line, value = self.line, self.integer(what)
        if value < 1:
            self.text.fail(line, f"{what} is {value}; it is at least 1.")
        return value

    def numbers(self, count: int, what: str) -> Tensor:
        """The next numbers, int64 if all are integers, else float64."""
        taken = self._take(count, what)
        try:
            return torch.tensor([int(word) for _, word in taken], dtype=torch.int64)
        except ValueError:
            return torch.tensor([self.text.real(number, word, what) for number, word in taken], dtype=torch.float64)

    def end(self, what: str) -> None:
        """Refuses words that are left."""
        if len(self):
            self.text.fail(self.line, f"{len(self)} more words after {what}, from {self.words[self.place][1]!r} on.")

    def _take(self, count: int, what: str) -> list[tuple[int, str]]:
        if count > len(self):
            self.text.fail(self.line, f"the file ends in the middle of {what}: {len(self)} of {count} numbers are there.")
        self.place += count
        return self.words[self.place - count : self.place]

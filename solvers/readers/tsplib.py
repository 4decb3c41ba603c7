"""TSPLIB: travelling salesman instances and tours (G. Reinelt, "TSPLIB 95", 1995)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .text import File, Text, Words

_PI, _RADIUS = 3.141592, 6378.388
"""The format's own value of pi and radius of the earth in kilometres, on which optimal lengths depend."""


@dataclass(frozen=True, eq=False)
class TSPLIBProblem:
    """A travelling salesman instance: `TSP(directed=problem.directed)(problem.distances[None])`.

    `distances (n, n)` are int64 (float64 if the file has fractions), the diagonal as in the file; `places (n, d)` are the
    coordinates, or None where the file has none.
    """

    name: str
    comment: str
    directed: bool
    distances: Tensor
    places: Tensor | None

    def length(self, tour: Tensor) -> Tensor:
        """How long a round trip through the cities `tour (n,)` is, numbered from 0."""
        return self.distances[tour, tour.roll(-1)].sum()


def read_tsplib(file: File) -> TSPLIBProblem:
    """The instance of a `.tsp` or `.atsp` file, with every type and format of edge weights that the library describes.

    Types EXPLICIT (in each EDGE_WEIGHT_FORMAT), EUC_2D, EUC_3D, MAX_2D, MAX_3D, MAN_2D, MAN_3D, CEIL_2D, GEO, ATT, XRAY1 and
    XRAY2. Raises ReadError, with the line, for what is not as described, for other problems (such as CVRP), for fixed edges.
    """
    text = Text(file)
    header, sections = _parts(text)
    kind = _word(text, header, "TYPE").split()[0]
    if kind not in ("TSP", "ATSP"):
        text.fail(header["TYPE"][0], f"TYPE is {kind}; this reads TSP and ATSP, and `read_tsplib_tour` tours.")
    if "FIXED_EDGES_SECTION" in sections:
        text.fail(sections["FIXED_EDGES_SECTION"].line, "edges are fixed; no solver here takes such. Remove the section.")
    cities = _dimension(text, header)
    places = _places(text, header, sections, cities)
    weights = _word(text, header, "EDGE_WEIGHT_TYPE")
    if weights == "EXPLICIT":
        distances = _explicit(text, header, sections, cities)
    elif weights in _DISTANCES:
        dimensions, function = _DISTANCES[weights]
        if places is None or places.shape[1] != dimensions:
            line = header["EDGE_WEIGHT_TYPE"][0]
            text.fail(
                line, f"EDGE_WEIGHT_TYPE {weights} needs coordinates, {dimensions} of each city, in a NODE_COORD_SECTION."
            )
        distances = function(places).long()
    else:
        known = ", ".join(["EXPLICIT", *_DISTANCES])
        text.fail(header["EDGE_WEIGHT_TYPE"][0], f"EDGE_WEIGHT_TYPE is {weights}; this reads {known}.")
    name, comment = (header.get(key, (0, ""))[1] for key in ("NAME", "COMMENT"))
    return TSPLIBProblem(name, comment, kind == "ATSP", distances, places)


def read_tsplib_tour(file: File) -> Tensor:
    """The cities of a `.tour` file in order, numbered from 0.  # -> (n,)"""
    text = Text(file)
    header, sections = _parts(text)
    if "TOUR_SECTION" not in sections:
        text.fail(len(text.lines), "there is no TOUR_SECTION.")
    words = sections["TOUR_SECTION"]
    first = words.line
    cities = []
    while len(words) and (city := words.integer("a city of the tour")) != -1:
        cities.append(city)
    count = _dimension(text, header) if "DIMENSION" in header else len(cities)
    if sorted(cities) != list(range(1, count + 1)):
        text.fail(first, f"the tour has {len(cities)} cities; expected each of 1 to {count} once, and -1 at the end.")
    return torch.tensor(cities) - 1


def _parts(text: Text) -> tuple[dict[str, tuple[int, str]], dict[str, Words]]:
    """The entries `KEY : value` with their lines, and the words of each section."""
    header: dict[str, tuple[int, str]] = {}
    sections: dict[str, list[tuple[int, str]]] = {}
    section = None
    for number, line in text.numbered():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if key == "EOF":
            break
        if key.endswith("_SECTION"):
            section = sections.setdefault(key, [])
        elif colon:
            header[key], section = (number, value), None
        elif section is None:
            text.fail(number, f"{line!r} is neither an entry `KEY : value` nor within a section.")
        else:
            section += [(number, word) for word in line.split()]
    return header, {key: Words(text, words) for key, words in sections.items()}


def _word(text: Text, header: dict[str, tuple[int, str]], key: str) -> str:
    if not header.get(key, (0, ""))[1]:
        text.fail(1, f"there is no entry {key}.")
    return header[key][1]


def _dimension(text: Text, header: dict[str, tuple[int, str]]) -> int:
    word = _word(text, header, "DIMENSION")
    cities = text.integer(header["DIMENSION"][0], word, "DIMENSION")
    if cities < 1:
        text.fail(header["DIMENSION"][0], f"DIMENSION is {cities}; it is at least 1.")
    return cities


def _places(text: Text, header: dict[str, tuple[int, str]], sections: dict[str, Words], cities: int) -> Tensor | None:
    """The coordinates of the cities, in their order.  # -> (n, d)"""
    words = sections.get("NODE_COORD_SECTION")
    if words is None:
        return None
    dimensions = 3 if header.get("EDGE_WEIGHT_TYPE", (0, ""))[1] in _SPATIAL else 2
    places = torch.full((cities, dimensions), torch.nan, dtype=torch.float64)
    for _ in range(cities):
        line, city = words.line, words.integer("the number of a city")
        if not 1 <= city <= cities or not places[city - 1].isnan().all():
            text.fail(line, f"city {city} is out of place; expected each of 1 to {cities} once.")
        places[city - 1] = words.numbers(dimensions, f"the coordinates of city {city}")
    if len(words) and words.integer("the end of the coordinates") != -1:
        text.fail(words.line, f"there are more coordinates than those of {cities} cities.")
    return places


def _explicit(text: Text, header: dict[str, tuple[int, str]], sections: dict[str, Words], cities: int) -> Tensor:
    """Distances as listed.  # -> (n, n)"""
    words = sections.get("EDGE_WEIGHT_SECTION")
    if words is None:
        text.fail(len(text.lines), "there is no EDGE_WEIGHT_SECTION.")
    style = _word(text, header, "EDGE_WEIGHT_FORMAT")
    if style == "FULL_MATRIX":
        out = words.numbers(cities * cities, "the edge weights").view(cities, cities)
    elif style in _TRIANGLES:
        rows, columns = _TRIANGLES[style](cities)
        listed = words.numbers(len(rows), "the edge weights")
        out = listed.new_zeros(cities, cities)
        out[rows, columns] = listed
        out[columns, rows] = listed
    else:
        known = ", ".join(["FULL_MATRIX", *_TRIANGLES])
        text.fail(header["EDGE_WEIGHT_FORMAT"][0], f"EDGE_WEIGHT_FORMAT is {style}; this reads {known}.")
    words.end("the edge weights")
    return out


def _triangle(upper: bool, diagonal: bool) -> Callable[[int], Tensor]:
    """Row by row, where each entry of a triangle is; column by column is the other triangle, mirrored."""
    entries = torch.triu_indices if upper else torch.tril_indices
    offset = 0 if diagonal else 1 if upper else -1
    return lambda n: entries(n, n, offset)


_TRIANGLES = {
    f"{side}_{'DIAG_' if diagonal else ''}{order}": _triangle((side == "UPPER") == (order == "ROW"), diagonal)
    for side in ("UPPER", "LOWER")
    for diagonal in (False, True)
    for order in ("ROW", "COL")
}


def _nearest(x: Tensor) -> Tensor:
    """The format's `nint`, for numbers that are not negative."""
    return (x + 0.5).floor()


def _steps(places: Tensor) -> Tensor:
    """Absolute differences of coordinates.  # (n, d) -> (n, n, d)"""
    return (places[:, None] - places).abs()


def _straight(places: Tensor) -> Tensor:
    return _steps(places).square().sum(-1).sqrt()


def _att(places: Tensor) -> Tensor:
    """A pseudo-Euclidean distance, rounded up."""
    r = (_steps(places).square().sum(-1) / 10).sqrt()
    t = _nearest(r)
    return torch.where(t < r, t + 1, t)


def _geo(places: Tensor) -> Tensor:
    """Kilometres on the idealised earth, between latitudes and longitudes written as DDD.MM, degrees and minutes."""
    degrees = places.trunc()
    latitude, longitude = (_PI * (degrees + 5 * (places - degrees) / 3) / 180).unbind(1)
    q1 = (longitude[:, None] - longitude).cos()
    q2, q3 = (latitude[:, None] - latitude).cos(), (latitude[:, None] + latitude).cos()
    out = (_RADIUS * (0.5 * ((1 + q1) * q2 - (1 - q1) * q3)).clamp(-1, 1).acos() + 1).floor()
    return out.fill_diagonal_(0)


def _xray(speeds: tuple[float, float, float]) -> Callable[[Tensor], Tensor]:
    """How long three motors take that turn at once, of which the first may go round either way; in hundredths."""

    def distance(places: Tensor) -> Tensor:
        angle, chi, theta = _steps(places).unbind(-1)
        angle = angle.minimum((angle - 360).abs())
        turns = torch.stack([angle, chi, theta], -1) / places.new_tensor(speeds)
        return _nearest(100 * turns.amax(-1))

    return distance


_DISTANCES: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "EUC_2D": (2, lambda places: _nearest(_straight(places))),
    "EUC_3D": (3, lambda places: _nearest(_straight(places))),
    "MAX_2D": (2, lambda places: _nearest(_steps(places)).amax(-1)),
    "MAX_3D": (3, lambda places: _nearest(_steps(places)).amax(-1)),
    "MAN_2D": (2, lambda places: _nearest(_steps(places).sum(-1))),
    "MAN_3D": (3, lambda places: _nearest(_steps(places).sum(-1))),
    "CEIL_2D": (2, lambda places: _straight(places).ceil()),
    "GEO": (2, _geo),
    "ATT": (2, _att),
    "XRAY1": (3, _xray((1.0, 1.0, 1.0))),
    "XRAY2": (3, _xray((1.25, 1.5, 1.15))),
}
_SPATIAL = {weights for weights, (dimensions, _) in _DISTANCES.items() if dimensions == 3}

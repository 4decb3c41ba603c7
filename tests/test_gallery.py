"""Tables and the gallery: made of results that are known."""

import json
import os
import re
from pathlib import Path

import pytest

from solverlayers.tasks import gallery, tables
from solverlayers.tasks.cli import main
from solverlayers.tasks.running import task_class
from solverlayers.tasks.specs import SpecError

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000000100000001080600000"
    "01f15c4890000000d4944415478da63fccfc0500f0004850180841a5d3a0000000049454e44ae426082"
)


def result(folder: Path, exact: float, seed: int = 0, spec: str = "dab", pictures: bool = True, **changes) -> None:
    config = dict(vars(task_class("sorting").presets["quick"])) | changes
    history = [{"step": step, "test": {"exact_match": exact * step / 2, "loss": 3.0 - step}} for step in (1, 2)]
    content = {"task": "sorting", "spec": spec, "rule": "DAB()", "projection": None, "noise": None, "preset": "quick"}
    content |= {"seed": seed, "config": config, "metrics": {"exact_match": exact, "loss": 1.0}, "seconds": 2.0}
    content |= {"cpu_seconds": 1.0, "data": "made <numbers>", "history": history}
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(content))
    if pictures:
        (folder / "predictions.png").write_bytes(PIXEL)
        (folder / "curve.png").write_bytes(PIXEL)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    result(tmp_path / "a", 0.5)
    result(tmp_path / "b", 0.7, seed=1)
    result(tmp_path / "c", 0.9, spec="identity", n=3)
    (tmp_path / "other.json").write_text('{"task": "laundry", "metrics": {}}')
    (tmp_path / "list.json").write_text("[1]")
    return tmp_path


TABLE = """\
| run | seeds | exact match | loss | seconds |
|---|---|---|---|---|
| dab | 2 | 60.00 ± 14.14 % | 1 ± 0 | 2 ± 0 |
| identity --set n=3 | 1 | 90.00 % | 1 | 2 |
"""


def test_report_prints_a_row_for_what_was_run(runs, capsys):
    assert main(["report", str(runs)]) == 0
    assert capsys.readouterr().out == f"## sorting\n\n{TABLE}\n"


def test_a_run_that_was_done_twice_counts_once(runs, capsys):
    """The newer one; a seed that is taken for two would shrink the spread."""
    result(runs / "0", 0.9, seed=1)
    for age, name in enumerate("0ab"):
        os.utime(runs / name / "result.json", (1e9 - age, 1e9 - age))
    assert main(["report", str(runs)]) == 0
    assert "| dab | 2 | 70.00 ± 28.28 % |" in capsys.readouterr().out


def test_report_fills_a_page_and_keeps_the_papers_figures(runs, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- results sorting exact_match -->\n"
        "| run | exact match | the paper's figure |\n|---|---|---|\n| `dab` | 1 % | 94.2 % |\n<!-- end -->\nafter\n"
    )
    assert main(["report", str(runs), "--into", str(page)]) == 0
    filled = (
        "before\n<!-- results sorting exact_match -->\n"
        "| run | seeds | exact match | the paper's figure |\n|---|---|---|---|\n"
        "| `dab` | 2 | 60.00 ± 14.14 % | 94.2 % |\n| `identity --set n=3` | 1 | 90.00 % |  |\n<!-- end -->\nafter\n"
    )
    assert page.read_text() == filled
    assert tables.fill(filled, tables.collect([runs])) == filled
    without = tables.fill("<!-- results sorting -->\n<!-- end -->", tables.collect([runs]))
    assert without.splitlines()[1] == "| run | seeds | exact match | loss | seconds |"


def test_report_refuses_what_it_cannot_fill(runs, tmp_path, capsys):
    with pytest.raises(SpecError, match="the page has no block"):
        tables.fill("<!-- results sorting -->\nno end", tables.collect([runs]))
    with pytest.raises(SpecError, match="there are no results of 'polynomial', whose table is to be filled"):
        tables.fill("<!-- results polynomial -->\n<!-- end -->", tables.collect([runs]))
    empty = tmp_path / "empty"
    assert main(["report", str(empty)]) == 2
    assert capsys.readouterr().err == (f"solverlayers: no results in {empty}; `solverlayers run` and `compare` leave them.\n")


def test_the_gallery_is_one_page_with_everything_in_it(runs, tmp_path, capsys):
    file = tmp_path / "site" / "gallery.html"
    assert main(["gallery", str(runs), "--out", str(file)]) == 0
    assert capsys.readouterr().out == f"written to {file}\n"
    page = file.read_text()
    assert "60.00 ± 14.14 %" in page
    assert "<code>identity --set n=3</code>, seed 0: predictions" in page
    assert "Data: made &lt;numbers&gt;." in page
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 1 + 2  # the curves of all runs, and a picture of each row
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r'(href|src)="(?!#|data:)', page)


def test_results_without_pictures_are_shown_too(tmp_path):
    result(tmp_path / "a", 0.5, pictures=False)
    assert gallery.render(tables.collect([tmp_path])).count("<img") == 1

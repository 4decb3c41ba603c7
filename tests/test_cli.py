"""The command line: what it prints, how it refuses, and that it survives a kill."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import solverlayers
from solverlayers.oracle import Oracle
from solverlayers.rules import Identity
from solverlayers.tasks import catalogue, doctor, running, specs
from solverlayers.tasks.base import Task
from solverlayers.tasks.cli import main

ROOT = Path(solverlayers.__file__).parent.parent
TINY = ["epochs=2", "batch=64", "train_size=256", "test_size=100", "n=3", "bits=16", "width=16"]


def options(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)] + ["--no-progress"]


def test_list_names_everything_and_imports_no_training_code(tmp_path: Path) -> None:
    code = (
        "import sys; from solverlayers.tasks.cli import main; main(['list']); "
        "print([m for m in ('lightning', 'matplotlib', 'ortools', 'networkx', 'torch_geometric') if m in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=env).stdout
    *lines, heavy = out.splitlines()
    assert heavy == "[]"
    first_words = {line.split()[0].partition("(")[0] for line in lines if line.startswith("  ")}
    assert {*running.TASKS, *specs.RULES, *specs.NOISES, *catalogue.solvers(), "std"} <= first_words
    assert all(len(line.split()) > 2 for line in lines if line.startswith("  "))  # each with its line of explanation


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["run", "sortin"],
            f"unknown task 'sortin' (did you mean 'sorting'?); use one of: {', '.join(sorted(running.TASKS))}.",
        ),
        (["run", "sorting", "--preset", "fast"], "unknown preset 'fast'; use one of: paper, quick, recipe, recipe_15, ten."),
        (
            ["run", "sorting", "--set", "epoch=3"],
            "unknown setting 'epoch' (did you mean 'epochs'?); use one of: batch, bits, epochs, fresh, hard, lr, "
            "margin, n, network, one_cycle, test_size, train_size, width.",
        ),
        (
            ["run", "sorting", "--noise", "gausian"],
            "unknown noise 'gausian' (did you mean 'gaussian'?); use one of: " + ", ".join(sorted(specs.NOISES)) + ".",
        ),
        (
            ["compare", "sorting", "--rules", "dab,identty"],
            "unknown rule 'identty' (did you mean 'identity'?); use one of: " + ", ".join(sorted(specs.RULES)) + ".",
        ),
        (["compare", "sorting", "--rules", "dab", "--seeds", "0"], "--seeds 0: at least one seed is needed."),
        (
            ["run", "sorting", "--resume"],
            "runs/sorting/dab-seed0 holds no run to resume (there is no run.json in it).",
        ),
        (
            ["run", "sorting", "--rule", ""],  # as of a variable of the shell that has no value
            "cannot read the rule ''; write a name, or a name with its parameters such as 'blackbox(step=20)'.",
        ),
        (["run", "sorting", "--seed", "-1"], "--seed -1: a seed is a whole number from 0 to 4294967295."),
    ],
)
def test_what_means_nothing_is_refused_in_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err == f"solverlayers: {message}\n"
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_run_leaves_a_folder_of_its_own_each_time(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["run", "sorting", "--rule", "imle(step=10, samples=2)", "--noise", "gaussian(0.1)", *options(*TINY)]
    assert main(command) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    name = "imle-step=10-samples=2-gaussian-0.1-seed0"
    title, *rows, last = captured.out.splitlines()
    assert title.startswith("sorting: IMLE(step=10, sigma=1.0, samples=2")
    assert title.endswith(", noise Gaussian(scale=0.1), preset quick, seed 0")
    assert last == f"written to runs/sorting/{name}"
    assert {"exact match", "loss", "solver seconds"} <= {row[2:].split("  ")[0] for row in rows}

    assert main(command) == 0
    folders = {p.name for p in (tmp_path / "runs" / "sorting").iterdir()}
    assert folders == {name, f"{name}-2"}
    files = {p.name for p in (tmp_path / "runs" / "sorting" / name).iterdir()}
    assert files == {"run.json", "result.json", "curve.png", "predictions.png", "checkpoints"}
    assert {p.name for p in tmp_path.iterdir()} == {"runs"}  # no logs of Lightning's

    capsys.readouterr()
    out = ["--out", f"runs/sorting/{name}"]
    assert main([*command, *out]) == 2
    assert capsys.readouterr().err == (
        f"solverlayers: runs/sorting/{name} holds a run already; go on with it with --resume, or choose another folder "
        f"with --out.\n"
    )
    assert main(["run", "sorting", "--resume", "--seed", "1", *out]) == 2
    assert capsys.readouterr().err == (
        f"solverlayers: runs/sorting/{name} holds a run with other settings: seed is 0 there and 1 here. Choose another "
        f"folder with --out.\n"
    )


def test_a_killed_run_resumes_where_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, epochs = tmp_path / "run", 100
    command = ["run", "sorting", *options(*TINY[1:], f"epochs={epochs}"), "--out", str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "solverlayers.tasks.cli", *command], cwd=tmp_path, env=environment)
    last = folder / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (folder / "result.json").exists()
    done = torch.load(last, weights_only=False)["history"]
    assert 0 < len(done) < epochs

    assert main(["run", "sorting", "--out", str(folder), "--resume", "--no-progress"]) == 0  # settings are those of the folder
    captured = capsys.readouterr()
    assert captured.err == ""
    history = json.loads((folder / "result.json").read_text())["history"]
    assert len(history) == epochs
    assert history[: len(done)] == done  # to the last digit of the seconds: nothing was done again
    assert history[-1]["seconds"] > done[-1]["seconds"]

    written = (folder / "result.json").stat().st_mtime_ns
    assert main(["run", "sorting", "--out", str(folder), "--resume"]) == 0  # finished: only the table again
    assert capsys.readouterr().out == captured.out
    assert (folder / "result.json").stat().st_mtime_ns == written


def test_damaged_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    checkpoint = folder / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    running.Run.make("sorting", settings=TINY).save(folder)
    resume = ["run", "sorting", "--out", str(folder), "--resume", "--no-progress"]
    checkpoint.write_bytes(b"half")
    assert main(resume) == 2
    assert capsys.readouterr().err == (
        f"solverlayers: {checkpoint} is damaged, as by a disk that was full. Remove it, and the run begins anew.\n"
    )
    for name, command in (("run.json", resume), ("result.json", ["report", str(folder)])):
        (folder / name).write_text("{")
        assert main(command) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"solverlayers: {folder / name} cannot be read (Expecting property name")
        assert said.endswith("). Remove it, or the folder that it is in.\n")
        (folder / name).unlink()
    for content in ("{}", "[]"):  # whole, and not what it should be
        running.Run.make("sorting", settings=TINY).save(folder)
        for name, lacking in (("result.json", "task, metrics, history"), ("run.json", "task, rule, projection")):
            (folder / name).write_text(content)
            assert main(resume) == 2
            assert capsys.readouterr().err.startswith(f"solverlayers: {folder / name} has no {lacking}")
            (folder / name).unlink()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_run_that_is_told_to_end_says_how_it_goes_on(
    number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Task, "on_train_epoch_end", lambda _: os.kill(os.getpid(), number))
    words = ["sorting", *options(*TINY), "--no-progress", "--out", str(tmp_path / "out")]
    for command, advice in ((["run"], "with --resume goes on"), (["compare", "--rules", "dab"], "goes on")):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Lightning switches it off when it comes
        assert main([*command, *words]) == 130
        signal.signal(signal.SIGINT, before)
        assert capsys.readouterr().err == f"\nstopped; the same command {advice} from the last epoch.\n"


def test_rules_that_would_share_a_folder_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "sorting", *options(*TINY), "--out", str(tmp_path / "out")]
    for rules in ("lpgd(1), lpgd(-1)", "identity, Identity()"):
        first, second = rules.split(", ")
        assert main([*words, "--rules", rules]) == 2
        assert capsys.readouterr().err.startswith(f"solverlayers: {first!r} and {second!r} would share the folder ")


def test_a_run_of_another_task_is_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    running.Run.make("sorting", settings=TINY).save(tmp_path)
    assert main(["run", "autoencoder", "--out", str(tmp_path), "--resume"]) == 2
    assert capsys.readouterr().err == f"solverlayers: {tmp_path} holds a run of the task 'sorting', not of 'autoencoder'.\n"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["run", "sorting", *options(*TINY), "--out", str(tmp_path / "file" / "run")]) == 1
    assert capsys.readouterr().err == f"solverlayers: [Errno 20] Not a directory: '{tmp_path / 'file' / 'run'}'\n"


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["--devices", "none"], "solverlayers: --devices none --strategy auto: "),
        (["--strategy", "none"], "solverlayers: --devices 1 --strategy none: You selected an invalid strategy name"),
    ],
)
def test_hardware_that_is_none_is_refused_in_one_line(
    words: list[str], start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "sorting", *options(*TINY), *words, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(start)
    assert said.count("\n") == 1


def test_options_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):  # not taken for --devices
        main(["run", "sorting", "--device", "cuda"])
    assert "unrecognized arguments: --device cuda" in capsys.readouterr().err


def test_a_reader_may_stop_reading(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "solverlayers.tasks.cli", "list"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    )
    assert process.stdout is not None
    process.stdout.close()  # as `head` does
    assert process.communicate()[1] == ""
    assert process.returncode == 1


def test_compare_writes_a_table_and_does_nothing_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", "sorting", "--rules", "identity, dab(weight=1)", "--seeds", "2", "--out", str(tmp_path)]
    assert main([*command, *options(*TINY)]) == 0
    first = capsys.readouterr()
    assert first.err == ""
    lines = first.out.splitlines()
    assert lines[:4] == [
        "[1/4] identity, seed 0",
        "[2/4] identity, seed 1",
        "[3/4] dab(weight=1), seed 0",
        "[4/4] dab(weight=1), seed 1",
    ]
    assert lines[4].split()[:4] == ["rule", "seeds", "exact", "match"]
    assert lines[6].startswith("  identity")
    assert " ± " in lines[6]
    with (tmp_path / "compare.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    stored = json.loads((tmp_path / "compare.json").read_text())
    assert [row["rule"] for row in rows] == [row["rule"] for row in stored["rows"]] == ["identity", "dab(weight=1)"]
    single = [json.loads((tmp_path / f"identity-seed{k}" / "result.json").read_text()) for k in (0, 1)]
    assert float(rows[0]["loss"]) == pytest.approx(sum(r["metrics"]["loss"] for r in single) / 2)
    assert (tmp_path / "compare.png").stat().st_size > 10_000

    assert main([*command, *options(*TINY)]) == 0
    assert capsys.readouterr().out.splitlines() == lines[4:]  # the same table, nothing run again

    assert main([*command, *options(*TINY), "--set", "margin=0.25"]) == 2
    assert capsys.readouterr().err == (
        f"solverlayers: {tmp_path}/identity-seed0 holds a run with other settings: margin is 0.5 there and 0.25 here. Choose "
        f"another folder with --out.\n"
    )


def test_compare_goes_on_when_a_rule_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(self: Identity, oracle: Oracle, theta: torch.Tensor) -> torch.Tensor:
        return oracle(theta * torch.nan)

    monkeypatch.setattr(Identity, "forward", diverging)
    command = ["compare", "sorting", "--rules", "identity,dab", "--seeds", "1", "--out", str(tmp_path), *options(*TINY)]
    assert main(command) == 1
    captured = capsys.readouterr()
    assert captured.err == (
        "solverlayers: identity failed: seed 0: Sign: instance 0 has NaN scores (64 of 64 instances). Look for a diverged "
        'network, or train on with `SolverLayer(..., on_failure="skip")`.\n'
    )
    assert "\n  dab " in captured.out


def test_doctor_finds_every_solver_working(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "all solvers work" in out
    assert f"torch            {torch.__version__}" in out
    assert set(catalogue.solvers()) <= set(doctor.EXAMPLES)


def test_doctor_reports_what_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(self: object, scores: torch.Tensor, **_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no licence")

    found = catalogue.solvers()
    monkeypatch.setattr(found["Argmax"], "solve", broken)
    monkeypatch.setattr(found["Round"], "solve", lambda self, scores, **_: scores.floor())
    monkeypatch.setattr(doctor.kernels, "variant", lambda: "none")
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "fails: RuntimeError: no licence" in out
    assert "wrong: [[[-2.0, 0.0, 0.0]]] instead of [[[-2, 0, 1]]]" in out
    assert "none: the batched torch versions serve" in out
    assert f"2 of {len(found)} solvers do not work" in out


def test_diagnose_measures_what_applies_and_says_why_the_rest_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diagnose", "topk(k=2)", "--repeats", "20", "--size", "4", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "identity" in printed
    assert "rein_max does not apply" in printed
    quality = json.loads((tmp_path / "quality.json").read_text())
    assert quality["found"]["blackbox"]["solves"] == 2
    assert (tmp_path / "quality.png").stat().st_size > 10_000


def test_diagnose_refuses_what_it_cannot_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "argmin"]) == 2
    assert "unknown solver 'argmin' (did you mean 'argmax'?)" in capsys.readouterr().err
    for option in ("--size", "--batch", "--sigma", "--repeats"):
        assert main(["diagnose", "topk(k=2)", option, "-1"]) == 2
        assert capsys.readouterr().err.startswith(f"solverlayers: {option} -1")

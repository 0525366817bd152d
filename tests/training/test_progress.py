"""What a run tells while something takes long, and how often it writes checkpoints."""

import re
from types import SimpleNamespace

import pytest

from grouprl.progress import tell
from grouprl.training import callbacks, checkpoint
from grouprl.training.callbacks import Progress

SMALL = ["steps=2", "prompts_per_step=4", "group_size=4", "minibatches=1", "max_new_tokens=8", "data.heldout_size=4"]
SMALL += ["reward=random", "eval_every=1", "eval_samples=1", "final_eval_samples=2", "threads=1", "hydra.run.dir=run"]


def test_long_work_tells_its_tokens_and_short_work_nothing(train, monkeypatch, capsys):
    assert train(*SMALL) == 0
    assert " tokens in " not in capsys.readouterr().out
    monkeypatch.setattr(callbacks, "SILENCE_S", 0.0)
    assert train(*SMALL, "hydra.run.dir=again") == 0
    said = capsys.readouterr().out
    for part in ("evaluation after 0 iterations: sampling", "iteration 1: sampling", "iteration 2: training"):
        assert f"  {part}, " in said
    found = [(int(a), int(b)) for a, b in re.findall(r"evaluation .* sampling, (\d+) of at most (\d+) tokens", said)]
    assert {most for _, most in found} == {4 * 2 * 8, 4 * 3 * 8}
    assert all(done <= most for done, most in found)
    tell("sampling", 3)  # nobody watches any more
    assert capsys.readouterr().out == ""


def test_in_a_terminal_the_bar_says_it(monkeypatch):
    monkeypatch.setattr(callbacks, "SILENCE_S", 0.0)
    progress, said = Progress(), []
    progress.bar = SimpleNamespace(set_description=said.append)
    progress._begin("iteration 7")
    progress._goes_on("sampling", 1200)
    progress._goes_on("sampling", 34)
    assert re.fullmatch(r"iteration 7: sampling, 1,234 tokens in 0 s", said[-1])


@pytest.fixture
def clock(monkeypatch):
    """A clock of which writing a checkpoint takes ten seconds and an iteration so many as are given."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(checkpoint.time, "perf_counter", lambda: now.seconds)
    return now


def written(clock, monkeypatch, tmp_path, *, steps, seconds, free=10**12, size=0, ranks=1):
    """The iterations after which a run writes."""
    found = []

    def save(self, trainer, iteration):
        clock.seconds += 10.0
        found.append(iteration)
        (tmp_path / "x").write_bytes(b"12")
        return tmp_path / "x"

    monkeypatch.setattr(checkpoint.Checkpoints, "save", save)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    written = checkpoint.Checkpoints(tmp_path, every=None)
    trainer = SimpleNamespace(is_global_zero=True, strategy=SimpleNamespace(broadcast=lambda value: value))
    for iteration in range(1, steps + 1):
        clock.seconds += seconds
        module = SimpleNamespace(iteration=iteration, steps=steps)
        written._bytes = size or written._bytes
        written._save_if_due(trainer, module)
    return found


def test_checkpoints_take_a_twentieth_of_the_time_and_the_last_is_written(clock, monkeypatch, tmp_path):
    # 10 s each of 1 s + 5% of the time: after 0, then at 380 s, at 580 s and so on, and after the last iteration.
    found = written(clock, monkeypatch, tmp_path, steps=30, seconds=30.0)
    assert found[0] == 1
    assert found[-1] == 30
    total = 30 * 30.0 + 10.0 * len(found)
    assert 10.0 * (len(found) - 2) <= 1 + 0.05 * total < 10.0 * len(found)
    assert written(clock, monkeypatch, tmp_path, steps=5, seconds=1000.0) == [1, 2, 3, 4, 5]


def test_a_disk_without_room_gets_none_and_that_is_said(clock, monkeypatch, tmp_path, caplog):
    assert written(clock, monkeypatch, tmp_path, steps=3, seconds=1000.0, free=10**9, size=10**9) == []
    assert "less is free than the 1.0 GB that one takes. Make room" in caplog.text


@pytest.mark.slow
def test_what_a_large_one_takes_is_said_once(train, monkeypatch, capsys):
    monkeypatch.setattr(checkpoint, "_LARGE_BYTES", 1000)
    for every, rhythm in (("null", "about 5% of the time"), ("1", r"after every 1 iterations \(checkpoint_every\)")):
        assert train(*SMALL, f"checkpoint_every={every}", f"hydra.run.dir=run-{every}") == 0
        said = capsys.readouterr().out
        assert len(re.findall(rf"^checkpoints: \d\.\d GB each, written in \d+\.\d s\. {rhythm}", said, re.M)) == 1

"""Studies whose runs are drawn and not trained for."""

from pathlib import Path

import pytest
from helpers.studies import HARD, make_run

from grouprl.studies.beginning import begin
from grouprl.studies.plan import plan_of


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A function that makes a study's runs on some bases: by how much z-score is better, on each."""
    monkeypatch.chdir(tmp_path)

    def make(gains, seeds=6, **settings):
        swept = {"policy": list(gains), "advantage": ["rank", "zscore"], "seed": [str(n) for n in range(seeds)]}
        plan = begin(plan_of(swept, [], **settings), Path("s"))
        for base, gain in gains.items():
            for seed in range(seeds):
                for advantage, more in (("rank", 0.0), ("zscore", gain)):
                    folder = Path(f"s/{base}-{advantage}-{seed}")
                    make_run(folder, advantage=advantage, seed=seed, chances=HARD + more, policy=base)
        return plan

    return make

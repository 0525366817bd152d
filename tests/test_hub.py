"""A hub that does not answer is asked once, and what is wanted from it is refused at once and in one line."""

import sys
import threading
from types import SimpleNamespace

import pytest
from huggingface_hub import constants, utils

from grouprl import hub
from grouprl.data.problems import hub_problems
from grouprl.evaluation.benchmarks import all_benchmarks
from grouprl.policy.load import load_policy


@pytest.fixture
def nowhere(monkeypatch):
    """An address at which nobody listens."""
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # so that what is set here is taken back
    if "datasets" in sys.modules:
        monkeypatch.setattr(sys.modules["datasets"].config, "HF_HUB_OFFLINE", False)
    hub.answers.cache_clear()
    yield
    hub.answers.cache_clear()


def test_what_comes_from_the_hub_is_refused_at_once(nowhere, monkeypatch):
    wanted = r"could not be had from the Hugging Face hub \(which does not answer, and it is not in the cache\)"
    with pytest.raises(ValueError, match=f"policy.path=owner/no-such-model: .*{wanted}"):
        load_policy("owner/no-such-model")
    assert constants.HF_HUB_OFFLINE  # nothing asks again
    with pytest.raises(ValueError, match=rf"owner/no-such-data \[train\]: it {wanted}"):
        hub_problems("owner/no-such-data", split="train", heldout_size=2)
    with pytest.raises(ValueError, match=rf"openai/gsm8k \[test\]: it {wanted}"):
        all_benchmarks()["gsm8k"].problems(limit=2)


def test_an_answer_of_any_kind_is_one(nowhere, monkeypatch):
    asked = []
    monkeypatch.setattr(utils, "get_session", lambda: SimpleNamespace(head=lambda url, timeout: asked.append(url)))
    assert hub.answers()
    assert hub.answers()
    assert asked == [constants.ENDPOINT]  # once
    assert not constants.HF_HUB_OFFLINE
    assert hub.reason(OSError("\nno such thing\nand more")) == "no such thing"


def test_one_that_is_silent_is_not_waited_for(nowhere, monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(hub, "_ANSWER_S", 0.05)
    monkeypatch.setattr(utils, "get_session", lambda: SimpleNamespace(head=lambda url, timeout: over.wait(60)))
    assert not hub.answers()
    over.set()


def test_who_is_offline_does_not_ask(nowhere, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(utils, "get_session", lambda: pytest.fail("it was asked"))
    assert not hub.answers()

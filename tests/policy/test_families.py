"""The whole path on model families: load, render, sample, train with and without LoRA, resume, save, load elsewhere."""

import json
from pathlib import Path

import pytest
import torch
from helpers.families import FAMILIES
from helpers.kinds import stack_of
from transformers import AutoModelForCausalLM, AutoTokenizer

from grouprl import GroupSampler, load_policy
from grouprl.batch import Prompts
from grouprl.data.prompts import encode, render
from grouprl.data.rows import Problem

pytestmark = pytest.mark.slow  # whole runs

QUESTIONS = ["How many apples are 3 and 4 apples?", "1 + 1?"]
TRAINED = [
    "policy=hf", "steps=2", "prompts_per_step=2", "minibatches=1", "group_size=4", "max_new_tokens=12", "threads=1",
    "data.train_size=16", "data.heldout_size=4", "eval_every=0", "eval_samples=1", "final_eval_samples=1",
    "warmup_steps=0", "lr=1e-3", "lr_decay=false", "checkpoint_every=1", "reward=random", "prompt.system=Answer in a box.",
]  # fmt: skip
TAKEN_UP = ("Gemma 3", "Qwen3.5, linear attention")
"""Of these a run with an adapter is taken up, too."""


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    made = {}

    def make(name):
        if name not in made:
            made[name] = FAMILIES[name].save(tmp_path_factory.mktemp("family"))
        return made[name]

    return make


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_are_what_the_template_writes_and_end_where_an_answer_begins(name, folder_of):
    family, policy = FAMILIES[name], load_policy(str(folder_of(name)))
    tokenizer = policy.tokenizer
    assert tokenizer.convert_tokens_to_ids(family.turn_end) in policy.eos_ids
    for system in (None, "Be brief."):
        text = render(tokenizer, QUESTIONS[1], system=system)
        assert QUESTIONS[1] in text
        assert (system or QUESTIONS[1]) in text
        (ids,) = encode(tokenizer, [Problem(QUESTIONS[1], "2")], system=system).token_ids
        assert ids[-1] not in policy.eos_ids
        assert tokenizer.decode(ids).endswith(text if family.template else text.strip())
        if family.bos and (family.adds_bos or "bos_token" in (family.template or "")):
            assert [token == tokenizer.bos_token_id for token in ids].count(True) == 1
            assert ids[0] == tokenizer.bos_token_id


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_completions_are_those_of_generate(name, folder_of):
    policy = load_policy(str(folder_of(name)))
    prompts = encode(policy.tokenizer, [Problem(question, "7") for question in QUESTIONS])
    found = GroupSampler(group_size=2, max_new_tokens=16)(policy, prompts, seed=0, greedy=True)
    model = AutoModelForCausalLM.from_pretrained(folder_of(name)).eval()
    for row, ids in enumerate(prompts.token_ids):
        out = model.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids)),  # else guessed, and the padding may be what begins a sequence
            do_sample=False,
            max_new_tokens=16,
            eos_token_id=list(policy.eos_ids),
            pad_token_id=0,
        )
        length = int(found.completion_mask[row, 0].sum())
        assert found.completion_ids[row, 0, :length].tolist() == out[0, len(ids) :].tolist()


FAST = ("Qwen2.5", "Qwen2.5 base", "Qwen3", "Llama 3", "Mistral", "SmolLM2")


@pytest.mark.parametrize("name", FAMILIES)
def test_which_path_is_taken(name, folder_of):
    assert (stack_of(load_policy(str(folder_of(name)))) is not None) == (name in FAST)


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_run_trains_is_taken_up_and_loads_elsewhere(name, adapter, folder_of, train):
    folder = folder_of(name)
    given = [f"policy.path={folder}", f"adapter={adapter}"]
    assert train(*TRAINED, *given, "hydra.run.dir=whole", small=False) == 0
    whole = load_policy("whole/policy")
    if adapter == "none" or name in TAKEN_UP:
        assert train(*TRAINED, *given, "hydra.run.dir=half", "steps=1", small=False) == 0
        assert train("resume=half", "steps=2", f"policy.path={folder}", small=False) == 0
        for (key, first), second in zip(whole.named_parameters(), load_policy("half/policy").parameters(), strict=True):
            assert torch.equal(first, second), key
    start = dict(load_policy(str(folder)).named_parameters())
    moved = [key for key, value in whole.named_parameters() if not torch.equal(value, start[key])]
    assert moved
    if adapter == "none":
        elsewhere = AutoModelForCausalLM.from_pretrained("whole/policy").eval()
    else:
        from peft import AutoPeftModelForCausalLM

        elsewhere = AutoPeftModelForCausalLM.from_pretrained("whole/policy").merge_and_unload().eval()
    ids = torch.tensor([[9, 10, 11, 12]])
    with torch.no_grad():
        torch.testing.assert_close(elsewhere(ids).logits, whole.base(ids).logits, atol=1e-5, rtol=0)
    tokenizer = AutoTokenizer.from_pretrained("whole/policy")
    assert tokenizer.chat_template == FAMILIES[name].template
    assert json.loads(Path("whole/result.json").read_text())["state"] == "finished"
    prompts = Prompts(("?",), ("2",), ((9, 10, 11, 12),), (0,))
    GroupSampler(group_size=2, max_new_tokens=4)(whole, prompts, seed=0)

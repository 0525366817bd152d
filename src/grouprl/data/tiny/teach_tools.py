"""Teach the embedded policy to use Python: ``python -m grouprl.data.tiny.teach_tools OUT_DIR`` (about 5 CPU minutes).

A supervised warm start from the embedded policy. Asked as for tool-integrated reasoning, it writes a program, reads its
output and boxes it; asked as before, it goes step by step. What the tool writes is not trained on. Problems are those
of `grouprl.data.tiny.task`, training chains alone, the hard ones among them.
"""

from __future__ import annotations

import argparse
import itertools
import random
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from grouprl.data import messages as system_messages
from grouprl.data.tiny.task import TinyProblem, hard_problems, problems, program, solution

SEED, STEPS, BATCH, LEARNING_RATE = 0, 1000, 32, 1e-3
_EMBEDDED = Path(__file__).parent / "model"


def transcript(problem: TinyProblem) -> list[tuple[str, bool]]:
    """The pieces of a solution with a tool, and whether the policy writes them."""
    return [
        (f"```python\n{program(problem.chain)}\n```\n```output", True),
        (f"\n{problem.answer}\n```\n", False),
        (rf"The answer is \boxed{{{problem.answer}}}.", True),
    ]


def encode(tokenizer: PreTrainedTokenizerBase, problem: TinyProblem, *, with_tool: bool) -> tuple[list[int], list[int]]:
    """Tokens and labels of one example; -100 where nothing is trained."""
    messages = [{"role": "system", "content": system_messages.TOOLS}] if with_tool else []
    messages.append({"role": "user", "content": problem.text})
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    labels = [-100] * len(ids)
    pieces = transcript(problem) if with_tool else [(solution(problem), True)]
    for text, trained in pieces:
        piece = tokenizer.encode(text, add_special_tokens=False)
        ids += piece
        labels += piece if trained else [-100] * len(piece)
    return [*ids, tokenizer.eos_token_id], [*labels, tokenizer.eos_token_id]


def teach(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, *, steps: int = STEPS) -> float:
    """Train in place; the last loss per token in nats."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 30, (steps - step) / (0.4 * steps))
    )
    rng, easy = random.Random(SEED), problems("train", seed=SEED + 2)
    hard = itertools.cycle(hard_problems("train", 20_000, seed=SEED))
    pad = torch.nn.utils.rnn.pad_sequence
    loss_per_token = 0.0
    for step in range(steps):
        examples = [
            encode(tokenizer, next(hard if rng.random() < 0.5 else easy), with_tool=rng.random() < 0.6)
            for _ in range(BATCH)
        ]
        ids = pad([torch.tensor(row) for row, _ in examples], batch_first=True)
        labels = pad([torch.tensor(row) for _, row in examples], batch_first=True, padding_value=-100)
        mask = pad([torch.ones(len(row), dtype=torch.long) for row, _ in examples], batch_first=True)
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        loss_per_token = float(loss.detach())
        if step % 100 == 0:
            print(f"step {step:5d}  loss/token {loss_per_token:.3f}")
    return loss_per_token


def main() -> None:
    """Teach and save a Hugging Face folder."""
    parser = argparse.ArgumentParser(description="Teach the embedded policy to use Python.")
    parser.add_argument("out", type=Path, help="folder to write (created)")
    parser.add_argument("--steps", type=int, default=STEPS, help="supervised steps (default %(default)s)")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(_EMBEDDED)
    model = AutoModelForCausalLM.from_pretrained(_EMBEDDED)
    teach(model, tokenizer, steps=arguments.steps)
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    print(f"saved to {arguments.out}")


if __name__ == "__main__":
    main()

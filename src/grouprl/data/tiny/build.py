"""Rebuild an embedded policy: ``python -m grouprl.data.tiny.build OUT_DIR --seed 0`` (about 17 CPU minutes).

A supervised warm start: clean solutions first, then a mixture of styles, slips and wrong habits, so that the policy
knows how to solve the task and shows it only some of the time; where a habit is stronger than the right way, never when
it is greedy. Reinforcement learning then has something to select, and a greedy answer something to gain. Only training
chains are shown (see `grouprl.data.tiny.task`). Seeds 0, 1 and 3 give ``tiny``, ``tiny_b`` and ``tiny_c``: other
weights and another order of problems, and the same tokenizer.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from grouprl.data.tiny.task import TinyProblem, apply, problems, solution

SEED = 0
STEPS = 3400
CLEAN_STEPS = 2900
BATCH = 32
LEARNING_RATE = 3e-3
DECAY_FROM = 0.6
"""Fraction of the steps after which the learning rate decays linearly to zero."""
STYLE_RATES = {"steps": 0.9, "box": 0.9, "notation": 0.9}
"""Share of each style in the mixed phase, drawn independently."""
HABITS = {"+": (-10, 0.6), "-": (10, 0.4), "*": (0, 0.35)}
"""Wrong habits of the mixed phase, by operation: error and share. A carry is dropped, a borrow forgotten, and a product
with a factor of 6 or more has one factor too few. With a share above one half, the greedy answer is wrong."""
SLIP_RATE = 0.06
"""Share of the other steps of a mixed-phase solution whose result is wrong: the policy is unsure of its arithmetic."""
MEAN_TOKENS = 1500
"""Constant that divides the summed loss: about the trained tokens of a batch."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_tokenizer(vocab_size: int = 433) -> PreTrainedTokenizerFast:
    """Byte-level BPE with single digits and a ChatML template, trained on the task's own text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    stream = problems("train", seed=SEED)
    corpus = ["user\nassistant\n"] * 50
    for style in range(2000):
        problem = next(stream)
        corpus += [problem.text, solution(problem, notation=style % 3 > 0, box=style % 4 > 0)]
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A randomly initialised Qwen2 of about 340 thousand parameters."""
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=3,
        num_key_value_heads=1,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.05,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config)


def warm_start(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, *, steps: int = STEPS, seed: int = SEED
) -> None:
    """Train the model in place on solutions of training problems, with the loss on completions alone."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    decay_from = int(steps * DECAY_FROM)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 50) * min(1.0, (steps - step) / (steps - decay_from))
    )
    stream, rng = problems("train", seed=seed + 1), random.Random(seed)
    clean_steps = steps * CLEAN_STEPS // STEPS
    started = time.process_time()
    for step in range(steps):
        batch = [next(stream) for _ in range(BATCH)]
        styles = [_style(rng, problem) if step >= clean_steps else {} for problem in batch]
        input_ids, labels, mask = _encode(tokenizer, batch, styles)
        logits = model(input_ids=input_ids, attention_mask=mask).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
        )
        optimizer.zero_grad()
        (loss / MEAN_TOKENS).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            tokens = int((labels != -100).sum())
            print(f"step {step:5d}  loss/token {loss.item() / tokens:.3f}  cpu {time.process_time() - started:.0f} s")


def _style(rng: random.Random, problem: TinyProblem) -> dict[str, Any]:
    """A random style with wrong habits and slips."""
    slips, value = {}, problem.chain.start
    for number, (op, operand) in enumerate(problem.chain.operations, start=1):
        error, rate = _habit(value, op, operand) or (rng.choice((-10, -2, -1, 1, 2, 10)), SLIP_RATE)
        value = apply(value, op, operand)
        if rng.random() < rate and value + error > 0:
            slips[number] = error
            value += error
    return {"slips": slips} | {name: rng.random() < rate for name, rate in STYLE_RATES.items()}


def _habit(value: int, op: str, operand: int) -> tuple[int, float] | None:
    """Error and share of the wrong habit that a step meets, or None."""
    carries = {"+": value % 10 + operand % 10 > 9, "-": value % 10 < operand % 10, "*": operand > 5}
    if not carries.get(op):
        return None
    error, rate = HABITS[op]
    return error or -value, rate


def _encode(
    tokenizer: PreTrainedTokenizerFast, batch: list[TinyProblem], styles: list[dict[str, Any]]
) -> tuple[Tensor, Tensor, Tensor]:
    rows, labels = [], []
    for problem, style in zip(batch, styles, strict=True):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": problem.text}], add_generation_prompt=True, tokenize=False
        )
        prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
        target_ids = [*tokenizer.encode(solution(problem, **style), add_special_tokens=False), tokenizer.eos_token_id]
        rows.append(torch.tensor(prompt_ids + target_ids))
        labels.append(torch.tensor([-100] * len(prompt_ids) + target_ids))
    pad = torch.nn.utils.rnn.pad_sequence
    mask = pad([torch.ones_like(row) for row in rows], batch_first=True)
    return pad(rows, batch_first=True), pad(labels, batch_first=True, padding_value=-100), mask


def main() -> None:
    """Build tokenizer and model, train, and save a Hugging Face folder."""
    parser = argparse.ArgumentParser(description="Rebuild the embedded policy and tokenizer.")
    parser.add_argument("out", type=Path, help="folder to write (created)")
    parser.add_argument("--steps", type=int, default=STEPS, help="supervised steps (default %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; 1 gives the shipped weights")
    parser.add_argument("--seed", type=int, default=SEED, help="of weights and problems (default %(default)s)")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} tokens")
    warm_start(model, tokenizer, steps=arguments.steps, seed=arguments.seed)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    recipe = {
        "seed": arguments.seed,
        "steps": arguments.steps,
        "batch": BATCH,
        "lr": LEARNING_RATE,
        "styles": STYLE_RATES,
        "habits": HABITS,
        "slips": SLIP_RATE,
    }
    (arguments.out / "recipe.json").write_text(json.dumps(recipe, indent=2) + "\n")
    print(f"saved to {arguments.out}")


if __name__ == "__main__":
    main()

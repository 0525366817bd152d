"""Runs that are small enough for tests."""

SMALL = [
    "steps=2",
    "prompts_per_step=4",
    "minibatches=2",
    "group_size=4",
    "max_new_tokens=64",
    "data.train_size=32",
    "data.heldout_size=8",
    "eval_every=0",
    "eval_samples=2",
    "warmup_steps=0",
    "lr=1e-3",
]
"""Overrides of a small run."""

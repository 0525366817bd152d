"""grouprl's side of the comparison."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

import torch
from sides import CLIP_NORM, LORA_ALPHA, LORA_RANK, LR, Setting, Side, Turns, quiet
from torch import Tensor
from workload import SEED, Clock, Size, build_model, build_prompts, build_tokenizer, force_end


class GroupRLSide(Side):
    """grouprl through Lightning's Trainer, as `train.py` runs it."""

    def __init__(self, size: Size, setting: Setting, *, fast: bool = True) -> None:
        super().__init__()
        import lightning as L

        from grouprl import GroupRLModule, GroupSampler, LoraAdapter, Policy, PolicyLoss
        from grouprl.advantages.baselines import ZScoreAdvantage
        from grouprl.losses.aggregations import SequenceMean
        from grouprl.losses.kl import K3

        quiet()
        self.clock, self.size = Clock(setting.device, wall=setting.wall), size
        adapter = LoraAdapter(LORA_RANK, LORA_ALPHA) if setting.lora else None
        model = build_model(size, setting.device)
        torch.manual_seed(SEED)
        self.policy = Policy(
            model,
            build_tokenizer(size),
            adapter=adapter,
            fast=fast,
            gradient_checkpointing=setting.checkpointing,
            cuda_graphs=setting.graphs,
            compile=setting.compiled,
        )
        prompts = build_prompts(size)
        module = GroupRLModule(
            self.policy,
            GroupSampler(group_size=size.group, max_new_tokens=size.new_tokens[1], max_sequences=size.sequences),
            lambda completions, prompts: [[float(i) for i in range(size.group)] for _ in completions],
            ZScoreAdvantage(),
            PolicyLoss(aggregation=SequenceMean(), kl=K3(setting.beta)),
            functools.partial(torch.optim.AdamW, lr=LR, weight_decay=0.0, fused=True),
            steps=self.iterations,
            ppo_epochs=size.epochs,
            micro_batch_size=setting.micro_batch_size,
            micro_batch_tokens=0,  # else long batches would be cut finer than TRL's
            max_grad_norm=CLIP_NORM,
            lr_decay=False,
            mismatch_tolerance=10.0,  # forced ends are recorded with the forced distribution's logprobs
        )
        self.module, side = module, self

        class Rest(L.Callback):
            def on_train_batch_start(self, *_) -> None:
                side.start_iteration()

            def on_train_batch_end(self, *_) -> None:
                side.end_iteration()

        self.trainer = trainer = L.Trainer(
            max_epochs=1,
            accelerator="cpu" if setting.device == "cpu" else "gpu",
            devices=1,
            precision="bf16-mixed" if setting.bf16 else "32-true",
            use_distributed_sampler=False,
            logger=False,
            callbacks=[Rest()],
            **dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False),
        )
        for owner, method, phase in (
            (module, "sampler", "generation"),
            (self.policy, "logprobs", "forward"),
            (self.policy, "reference_logprobs", "old and reference"),
            (module, "loss", "forward"),
            (module, "manual_backward", "backward"),
        ):
            self.watch(owner, method, phase)
        data = torch.utils.data.DataLoader(range(self.iterations), batch_size=None, collate_fn=lambda _: prompts)
        self.turns = Turns(lambda: trainer.fit(module, data))

    def watch(self, owner: object, method: str, phase: str) -> None:
        """See `Clock.watch`; components are objects that are called."""
        if method in ("sampler", "loss"):
            setattr(owner, method, _Watched(getattr(owner, method), self.clock, phase))
        else:
            self.clock.watch(owner, method, phase)

    @contextlib.contextmanager
    def forced_lengths(self) -> Iterator[None]:
        """Completions end where the workload says, in sampling."""
        from grouprl.sampling import decoding

        lengths, size = self.forced.to(self.policy.device), self.size
        draw = decoding.Decoder._draw

        def forced(decoder, logits: Tensor, rows: Tensor, step: int) -> Tensor:
            return draw(decoder, force_end(logits, lengths[rows] == step + 1, size.eos), rows, step)

        decoding.Decoder._draw = forced
        try:
            yield
        finally:
            decoding.Decoder._draw = draw

    def step(self) -> dict[str, float]:
        """See `Side`."""
        with self.forced_lengths():
            seconds = super().step()
        prompts, rollouts, *_ = self.module.last_rollouts
        self.lengths = rollouts.lengths.flatten().tolist()
        self.prompt_ids = [list(ids) for ids in prompts.token_ids]
        return seconds

    @property
    def model(self) -> torch.nn.Module:
        """See `Side`."""
        return self.policy.model

    @property
    def optimizer_steps(self) -> int:
        """See `Side`. Lightning counts them."""
        return self.trainer.global_step


class _Watched:
    """A component whose calls are timed."""

    def __init__(self, component, clock: Clock, phase: str) -> None:
        self._component = component
        clock.watch(self, "call", phase)

    def call(self, *args, **kwargs):
        return self._component(*args, **kwargs)

    def __call__(self, *args, **kwargs):
        return self.call(*args, **kwargs)

    def __getattr__(self, name: str):
        return getattr(self._component, name)

"""TRL's side of the comparison."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator

import torch
from sides import CLIP_NORM, LORA_ALPHA, LORA_RANK, LR, Setting, Side, Turns, quiet
from torch import Tensor
from workload import SEED, Clock, Size, build_model, build_prompts, build_tokenizer, force_end


class TRLSide(Side):
    """TRL's GRPOTrainer with transformers' `generate`."""

    def __init__(self, size: Size, setting: Setting) -> None:
        super().__init__()
        from datasets import Dataset
        from peft import LoraConfig
        from transformers import LogitsProcessorList, TrainerCallback
        from trl import GRPOConfig, GRPOTrainer
        from trl.trainer import utils

        quiet()
        self.clock, self.size, side = Clock(setting.device, wall=setting.wall), size, self
        if setting.compact_head:
            utils._use_triton = lambda device: True  # asked there only for which positions are scored
        self._folder = tempfile.TemporaryDirectory()
        micro = setting.micro_batch_size or size.sequences
        model = build_model(size, setting.device)
        model.set_attn_implementation(setting.attention)
        torch.manual_seed(SEED)
        arguments = GRPOConfig(
            output_dir=self._folder.name,
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=size.sequences // micro,
            num_generations=size.group,
            num_iterations=size.epochs,
            max_completion_length=size.new_tokens[1],
            max_steps=self.iterations * size.epochs,
            beta=setting.beta,
            loss_type="grpo",
            epsilon=0.2,
            temperature=1.0,
            learning_rate=LR,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=CLIP_NORM,
            optim="adamw_torch_fused",
            bf16=setting.bf16,
            use_cpu=setting.device == "cpu",
            gradient_checkpointing=setting.checkpointing,
            shuffle_dataset=False,
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
            seed=SEED,
        )

        class Rest(TrainerCallback):
            def on_step_begin(self, args, state, control, **_) -> None:
                if state.global_step % size.epochs == 0:
                    side.start_iteration()

            def on_step_end(self, args, state, control, **_) -> None:
                if state.global_step % size.epochs == 0:
                    side.end_iteration()

        def reward(completions, **_) -> list[float]:
            return [float(i % size.group) for i in range(len(completions))]

        adapter = LoraConfig(
            r=LORA_RANK, lora_alpha=LORA_ALPHA, target_modules="all-linear", lora_dropout=0.0, task_type="CAUSAL_LM"
        )
        with _reference_is(lambda: build_model(size, setting.device)):
            self.trainer = trainer = GRPOTrainer(
                model,
                reward_funcs=reward,
                args=arguments,
                train_dataset=Dataset.from_dict({"prompt": list(build_prompts(size).problems)}),
                processing_class=build_tokenizer(size),
                callbacks=[Rest()],
                peft_config=adapter if setting.lora else None,
            )

        def processor(input_ids: Tensor, scores: Tensor) -> Tensor:
            ends_now = processor.lengths == input_ids.shape[1] - processor.prompt_width + 1
            return force_end(scores, ends_now, size.eos)

        generate = trainer.model.generate

        def forced(*args, **kwargs):
            processor.prompt_width = kwargs["input_ids"].shape[1]
            processor.lengths = side.forced.to(setting.device)
            return generate(*args, logits_processor=LogitsProcessorList([processor]), **kwargs)

        trainer.model.generate = forced
        turn = trainer._generate_single_turn

        def recorded(prompt_ids, *args, **kwargs):
            completion_ids, logprobs = turn(prompt_ids, *args, **kwargs)
            side.prompt_ids, side.lengths = list(map(list, prompt_ids)), list(map(len, completion_ids))
            return completion_ids, logprobs

        trainer._generate_single_turn = recorded
        self.clock.watch(trainer, "_generate_single_turn", "generation")
        self.clock.watch(trainer, "_compute_loss", "forward")
        self.clock.watch(trainer.accelerator, "backward", "backward")
        logprobs = trainer._get_per_token_logps_and_entropies

        def without_gradient(*args, **kwargs):
            # Under gradient this is part of the forward phase, which is timed already.
            if torch.is_grad_enabled():
                return logprobs(*args, **kwargs)
            started = self.clock.now()
            result = logprobs(*args, **kwargs)
            phases = self.clock.phases
            phases["old and reference"] = phases.get("old and reference", 0.0) + self.clock.now() - started
            return result

        trainer._get_per_token_logps_and_entropies = without_gradient
        self.turns = Turns(trainer.train)

    @property
    def model(self) -> torch.nn.Module:
        """See `Side`."""
        return self.trainer.model

    @property
    def optimizer_steps(self) -> int:
        """See `Side`."""
        return self.trainer.state.global_step


@contextlib.contextmanager
def _reference_is(build: Callable[[], torch.nn.Module]) -> Iterator[None]:
    """TRL reads its reference model from a folder, which models of random weights do not have."""
    from trl.trainer import grpo_trainer

    create = grpo_trainer.create_model_from_path
    grpo_trainer.create_model_from_path = lambda *_, **__: build()
    try:
        yield
    finally:
        grpo_trainer.create_model_from_path = create

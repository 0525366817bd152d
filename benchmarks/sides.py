"""The two sides of the comparison: a training loop each that runs one RL iteration at a time, its phases timed."""

from __future__ import annotations

import contextlib
import functools
import logging
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from workload import SEED, Clock, Size, build_model, build_prompts, build_tokenizer, completion_lengths, force_end

LR, CLIP_NORM, LORA_RANK, LORA_ALPHA = 1e-6, 1.0, 16, 32


@dataclass(frozen=True)
class Setting:
    """What is varied beside the size."""

    beta: float = 0.0
    lora: bool = False
    device: str = "cpu"
    bf16: bool = False
    """bfloat16 arithmetic over float32 weights (autocast), on both sides; else float32."""
    attention: str = "sdpa"
    """TRL's; grouprl calls torch's scaled_dot_product_attention itself."""
    micro_batch_size: int = 0
    """Sequences of a forward and backward pass; 0: all of a step."""
    checkpointing: bool = False
    """Gradient checkpointing, on both sides."""
    graphs: bool = True
    """grouprl's decode steps as CUDA graphs, on a GPU."""
    compiled: bool = False
    """grouprl's layers compiled for training."""
    compact_head: bool = False
    """Let TRL's fused head score completions alone, as it does with Triton; without Triton it scores prompts too."""
    wall: bool = False
    """Seconds of the clock on the wall, not CPU seconds. Always so on a GPU."""


class Turns:
    """A loop in a thread of its own that stops after each iteration until it is told to go on.

    Both libraries own their loop; so one of them rests while an iteration of the other is timed.
    """

    def __init__(self, loop: Callable[[], object]) -> None:
        self._go, self._done, self._error = threading.Semaphore(0), threading.Semaphore(0), None
        self._ending = False

        def run() -> None:
            self._go.acquire()
            try:
                loop()
            except _EndError:
                pass
            except BaseException as error:  # noqa: BLE001 - raised again in `iterate`
                self._error = error
            self._done.release()

        threading.Thread(target=run, daemon=True).start()

    def iterate(self) -> None:
        """Let the loop do one iteration."""
        self._go.release()
        self._done.acquire()
        if self._error is not None:
            raise self._error

    def rest(self) -> None:
        """Called by the loop between iterations."""
        self._done.release()
        self._go.acquire()
        if self._ending:
            raise _EndError

    def end(self) -> None:
        """End the loop."""
        self._ending = True
        self.iterate()


class _EndError(BaseException):
    pass


class Side:
    """One of the two; `step` does one RL iteration and gives its seconds by phase."""

    turns: Turns
    clock: Clock
    iterations = 10_000
    lengths: list[int]
    """Completion lengths of the latest iteration, the samples of a prompt next to each other."""
    backward_passes: int
    """Of the latest iteration."""
    prompt_ids: list[list[int]]
    """Prompt tokens of the latest iteration: of each prompt, or of each sequence."""

    def __init__(self) -> None:
        self._started = 0.0

    def start_iteration(self) -> None:
        """Called where the work of an iteration begins."""
        self.clock.take()
        self._started = self.clock.now()

    def end_iteration(self) -> None:
        """Called where it ends."""
        whole = self.clock.now() - self._started
        self.backward_passes = self.clock.calls["backward"]
        self.seconds = {"whole step": whole} | self.clock.take()
        self.turns.rest()

    @property
    def model(self) -> torch.nn.Module:
        """The model that is trained, with its adapter."""
        raise NotImplementedError

    @property
    def optimizer_steps(self) -> int:
        """Optimizer steps since the start."""
        raise NotImplementedError

    def step(self) -> dict[str, float]:
        """One iteration's seconds: the whole step, its phases, and what is neither."""
        self.turns.iterate()
        seconds = self.seconds
        seconds["training"] = seconds["whole step"] - seconds["generation"] - seconds.get("old and reference", 0.0)
        seconds["optimizer and rest"] = seconds["training"] - seconds["forward"] - seconds["backward"]
        assert min(seconds.values()) >= 0, f"Phases overlap: {seconds}"
        return seconds

    def end(self) -> None:
        """End the loop."""
        self.turns.end()


class GroupRLSide(Side):
    """grouprl through Lightning's Trainer, as `train.py` runs it."""

    def __init__(self, size: Size, setting: Setting, *, fast: bool = True) -> None:
        super().__init__()
        import lightning as L

        from grouprl import GroupRLModule, GroupSampler, LoraAdapter, Policy, PolicyLoss
        from grouprl.advantages import ZScoreAdvantage
        from grouprl.losses import K3, SequenceMean

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
            clip_norm=CLIP_NORM,
            lr_decay=False,
            ratio_tolerance=10.0,  # forced ends are recorded with the forced distribution's logprobs
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
        from grouprl import decoding

        lengths = completion_lengths(self.size).to(self.policy.device)
        draw = decoding.Decoder._draw

        def forced(decoder, logits: Tensor, rows: Tensor, step: int) -> Tensor:
            return draw(decoder, force_end(logits, lengths[rows] == step + 1), rows, step)

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
        lengths = completion_lengths(size).to(setting.device)

        def processor(input_ids: Tensor, scores: Tensor) -> Tensor:
            return force_end(scores, lengths == input_ids.shape[1] - processor.prompt_width + 1)

        generate = trainer.model.generate

        def forced(*args, **kwargs):
            processor.prompt_width = kwargs["input_ids"].shape[1]
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


def quiet() -> None:
    """No warnings or progress bars between the lines of a benchmark."""
    import datasets
    import transformers

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    transformers.logging.set_verbosity_error()
    datasets.disable_progress_bars()

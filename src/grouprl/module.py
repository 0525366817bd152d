"""The algorithm: sample groups, score them, take PPO epochs. Start at `GroupRLModule.training_step`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.optimizer import Optimizer

from grouprl.advantages.base import Advantage
from grouprl.advantages.own import advantages_of, try_advantage
from grouprl.batch import Experience, LossOutputs, Minibatch, Prompts, Rollouts, TokenLogprobs
from grouprl.evaluation import heldout
from grouprl.losses.policy_loss import PolicyLoss
from grouprl.policy.policy import Policy
from grouprl.rewards.base import Reward, Rewards
from grouprl.rewards.scoring import OnUnscorable, Scorer
from grouprl.runtime.failures import SharedFailure, failing_together
from grouprl.runtime.groups import GroupFilter, Groups, draw_groups
from grouprl.runtime.guards import FiniteSteps, SamplerMismatch, TrainingError
from grouprl.runtime.measures import Agreed
from grouprl.runtime.memory import MemoryLimits, OnOutOfMemory
from grouprl.runtime.meter import Meter, Stopwatch, describe_epochs, describe_groups, log_metrics, peak_memory
from grouprl.runtime.minibatches import minibatch_groups, token_weights
from grouprl.runtime.passes import at_another_shape, first_pass, logprobs_of_all
from grouprl.runtime.ranks import gathered
from grouprl.runtime.schedule import WarmupDecay, say_what_ends
from grouprl.sampling.base import Sampler, sampling_seed
from grouprl.statistics.proportions import Estimate


class GroupRLModule(L.LightningModule):
    """Group-relative reinforcement learning of a language model. One training step is one RL iteration."""

    def __init__(
        self,
        policy: Policy,
        sampler: Sampler,
        reward: Reward,
        advantage: Advantage,
        loss: PolicyLoss,
        optimizer: Callable[..., Optimizer],
        *,
        filter: GroupFilter | None = None,
        steps: int,
        ppo_epochs: int = 1,
        minibatches: int = 1,
        micro_batch_size: int = 0,
        micro_batch_tokens: int = 8192,
        warmup_steps: int = 0,
        lr_decay: bool = True,
        max_grad_norm: float = 1.0,
        mask_truncated: bool = False,
        mismatch_tolerance: float | None = None,
        target_kl: float | None = None,
        max_skipped_steps: int = 3,
        on_unscorable: OnUnscorable = "drop_sample",
        on_out_of_memory: OnOutOfMemory = "stop",
        eval_samples: int = 4,
        final_eval_samples: int | None = None,
        seed: int = 0,
        repeat: str | None = None,
    ) -> None:
        """Put the components together.

        Args:
            policy: The language model that is trained.
            sampler: Draws the groups.
            reward: Scores them: any callable ``reward(completions, prompts)``.
            advantage: Turns the rewards of a group into advantages: an estimator, or a function of the rewards.
            loss: Policy loss; with a KL term the module keeps a frozen reference.
            optimizer: Makes the optimizer from the trained parameters.
            filter: Which groups are trained on; None: all.
            steps: RL iterations, after which training ends. (Lightning's ``max_steps`` counts optimizer steps.)
            ppo_epochs: PPO epochs over the samples of each iteration.
            minibatches: Optimizer steps of a PPO epoch; each takes whole groups.
            micro_batch_size: Sequences in a forward pass, 0: any number. The gradient does not depend on it.
            micro_batch_tokens: Tokens in a forward pass, a prompt that its group shares counted once; 0: any number.
                The gradient does not depend on it. Groups stay whole where they fit; a single sequence may exceed it.
                A 1.5B policy keeps about 3.5 MB of activations a token, 0.2 MB with gradient checkpointing.
            warmup_steps: Iterations over which the learning rate rises.
            lr_decay: Let the learning rate fall linearly to a tenth afterwards.
            max_grad_norm: Largest gradient norm.
            mask_truncated: Leave truncated completions out of the loss and of its denominators.
            mismatch_tolerance: Largest deviation from 1 of a rollout's ratios before its first optimizer step (in the
                mean under reduced precision or an inexact sampler). None: 1e-3 in float32, 0.02 in the mean elsewhere.
            target_kl: Leave the PPO epochs of an iteration when the approximate KL of one exceeds this; None: never.
            max_skipped_steps: Optimizer steps in a row that may be skipped for a loss or gradient that is not finite.
            on_unscorable: What a completion without a reward costs, see `grouprl.rewards.scoring.Scorer`.
            on_out_of_memory: ``stop``: a `TrainingError` names the option to change. ``halve``: the work is begun
                again in halves, with the same result up to rounding; on one device alone.
            eval_samples: Samples of each held-out problem.
            final_eval_samples: The same at the last evaluation, after all steps; None: as many as at the others.
            seed: Seed of sampling and of the order of minibatches.
            repeat: Name of a repetition: other draws of completions in training, and nothing else.
        """
        super().__init__()
        try_advantage(advantage)
        self.automatic_optimization = False
        self.strict_loading = False  # a checkpoint holds the trained weights alone; see on_load_checkpoint
        self.policy, self.sampler, self.scorer = policy, sampler, Scorer(reward, on_unscorable=on_unscorable)
        self.advantage, self.loss, self.make_optimizer = advantage, loss, optimizer
        self.filter = filter or GroupFilter()
        self.steps, self.ppo_epochs, self.minibatches = steps, ppo_epochs, minibatches
        self.memory = MemoryLimits(
            policy,
            micro_batch_size=micro_batch_size,
            micro_batch_tokens=micro_batch_tokens,
            on_out_of_memory=on_out_of_memory,
        )
        self.schedule = WarmupDecay(steps, warmup_steps, lr_decay)
        self.max_grad_norm, self.mask_truncated = max_grad_norm, mask_truncated
        self.mismatch_tolerance, self.target_kl = mismatch_tolerance, target_kl
        self.finite_steps = FiniteSteps(max_skipped_steps)
        self.eval_samples, self.seed, self.sampling_seed = eval_samples, seed, sampling_seed(seed, repeat)
        self.final_eval_samples = final_eval_samples or eval_samples
        self.iteration, self.said_floor, self.stop_requested = 0, False, False  # after the iteration under way
        self.evaluations: dict[int, dict[str, Estimate]] = {}
        """Held-out estimates by the number of finished iterations."""
        self.last_rollouts: tuple[Prompts, Rollouts, Rewards, Tensor] | None = None
        """Prompts, rollouts, rewards and advantages of the latest iteration, for callbacks that show samples."""
        self.last_metrics: dict[str, float] = {}
        """What the latest iteration logged."""
        self.last_ratio_counts: Tensor | None = None
        """Its trained tokens by ratio (`grouprl.batch.RATIO_EDGES`), over all PPO epochs and ranks."""
        self.measure_heldout: Callable[..., list[heldout.ProblemResult]] = heldout.measure
        self._heldout: list[heldout.ProblemResult] = []
        self.last_evaluation: list[heldout.ProblemResult] = []
        """Results of the latest evaluation, of the problems of all ranks."""
        self._validation = SharedFailure(self.memory.explain)
        if loss.needs_reference:
            policy.keep_reference()

    def setup(self, stage: str) -> None:
        """Refuse what several ranks cannot do."""
        self.memory.refuse_ranks(self.trainer.world_size)
        say_what_ends(self.trainer.max_steps, self.ppo_epochs * self.minibatches)

    def on_train_batch_start(self, batch: Prompts, batch_idx: int) -> int | None:
        """Lightning ends training where this is -1."""
        return -1 if self.stop_requested or self.iteration >= self.steps else None

    def training_step(self, prompts: Prompts, batch_idx: int) -> None:
        """One RL iteration."""
        clock = Stopwatch()
        with self.failing_together():
            groups = draw_groups(partial(self.draw, clock), prompts, self.filter.rounds)
        with clock("training"):
            with self.failing_together():
                experience = self.make_experience(groups)
            mismatch = SamplerMismatch(
                self.policy.tokenizer, exact=self.is_exact, tolerance=self.mismatch_tolerance, band=self.loss.band
            )
            epochs = self.take_epochs(experience, mismatch)
            rate = self.step_schedule()
        self.iteration += 1
        self.last_rollouts = (groups.prompts, groups.rollouts, groups.rewards, groups.advantages)
        metrics = describe_groups(groups, self.mask_truncated) | describe_epochs(epochs) | mismatch.metrics()
        metrics |= self.memory.metrics() | peak_memory() | clock.metrics(groups, len(epochs)) | {"lr": Agreed(rate)}
        self.last_metrics = log_metrics(self.trainer, metrics, step=self.iteration)
        self.last_ratio_counts = Meter.sum_of(epochs).ratio_counts

    def draw(self, clock: Stopwatch, prompts: Prompts) -> Groups:
        """A scored group of completions for each prompt."""
        with clock("sampling"):
            rollouts = self.memory.sample(
                self.sampler, prompts, lambda sampler: sampler(self.policy, prompts, seed=self.sampling_seed)
            )
        with clock("scoring"):
            rewards = self.scorer(rollouts.completions, prompts).to(self.device)
            advantages = advantages_of(self.advantage, rewards.values, rewards.valid, rewards.parts)
        return Groups(prompts, rollouts, rewards, advantages, tokens=int(rollouts.lengths.sum()))

    def make_experience(self, groups: Groups) -> Experience:
        """Rollouts with all that is fixed over the PPO epochs: advantages, trained samples, old and ref logprobs."""
        kept = self.filter.kept(groups.prompts, self.seed).to(self.device).unsqueeze(-1)
        trained = groups.rewards.valid & kept
        if self.mask_truncated:
            trained &= ~groups.rollouts.truncated
        experience = Experience(groups.rollouts, groups.advantages * kept, trained)
        if not self.is_exact and not self.takes_one_step:
            experience = replace(experience, old_logprobs=self.old_logprobs(experience))
        if self.loss.needs_reference:
            ref_logprobs = logprobs_of_all(self.memory, experience, self.policy.reference_logprobs)
            experience = replace(experience, ref_logprobs=ref_logprobs)
        return experience

    def old_logprobs(self, experience: Experience) -> Tensor:
        """The trainer's, by the micro-batches of the first PPO epoch, so that its ratios begin at 1 exactly."""
        parts = list(self.minibatch_groups(len(experience.advantages), 0))
        sizes: Any = {"parts": parts, "all_rows": self.loss.needs_reference}  # else rows without a signal are not used
        return logprobs_of_all(self.memory, experience, lambda x: self.policy.logprobs(x).logprobs, **sizes)

    def take_epochs(self, experience: Experience, mismatch: SamplerMismatch) -> list[Meter]:
        """The PPO loop over one rollout; what the losses of each epoch measured."""
        epochs: list[Meter] = []
        for epoch in range(self.ppo_epochs):
            meter = Meter()
            for groups in self.minibatch_groups(len(experience.advantages), epoch):
                weights = token_weights(self.loss.aggregation, experience, groups, self.trainer.strategy)
                self.optimize(experience.minibatch(groups, weights), meter, mismatch)
            epochs.append(meter.over_ranks(self.trainer.strategy))
            if self.target_kl is not None and epochs[-1].means().get("approx_kl", 0.0) > self.target_kl:
                break
        return epochs

    def minibatch_groups(self, prompts: int, epoch: int) -> Iterator[Tensor]:
        """The groups of each optimizer step of a PPO epoch, by their row on this rank."""
        seed, rank = (self.seed, self.iteration, epoch), self.trainer.global_rank
        for groups in minibatch_groups(prompts, self.minibatches, seed=seed, rank=rank):
            yield groups.to(self.device)

    def optimize(self, minibatch: Minibatch, meter: Meter, mismatch: SamplerMismatch) -> None:
        """One optimizer step on a minibatch; before a rollout's first one, the policy is compared with the sampler."""
        optimizer = self.optimizers()
        rows = minibatch if self.loss.needs_reference else minibatch.with_signal()
        loss = 0.0
        for micro_batch, current, outputs in self.memory.fitting(lambda: self.accumulate_gradient(rows)):
            meter.add(outputs, current.entropy)
            mismatch.add(current.logprobs, micro_batch)
            loss += float(outputs.loss)
        if not mismatch.done:
            with self.failing_together():
                if not mismatch.tokens:  # so that every iteration is compared
                    mismatch.add(*first_pass(self.memory, self.policy, minibatch))
            self.check_mismatch(mismatch, minibatch)
        norm = torch.nn.utils.clip_grad_norm_(self.trained_parameters(), self.max_grad_norm)
        if self.finite_steps.allows(self.trainer.strategy, loss, norm):
            with self.failing_together(), self.memory.stepping():
                optimizer.step()  # type: ignore[union-attr]
            meter.end_step(float(norm))
        else:
            meter.skip_step()
        optimizer.zero_grad()  # type: ignore[union-attr] # the memory is the next rollout's

    def check_mismatch(self, mismatch: SamplerMismatch, minibatch: Minibatch) -> None:
        """Compare the policy with the sampler; in reduced precision with the precision's own floor."""
        strategy, beyond = self.trainer.strategy, False
        if not mismatch.exact and ((beyond := mismatch.is_beyond(strategy)) or not self.said_floor):
            with self.failing_together():
                mismatch.add_floor(*at_another_shape(self.memory, self.policy, minibatch))
        mismatch.check(strategy, self.iteration)
        if not mismatch.exact and (beyond or not self.said_floor) and self.trainer.is_global_zero:
            print(f"{self.trainer.precision}: {mismatch.found}", flush=True)
        self.said_floor = True

    def accumulate_gradient(self, rows: Minibatch) -> list[tuple[Minibatch, TokenLogprobs, LossOutputs]]:
        """The gradient of a minibatch, from nothing, by micro-batches whose losses add up to the minibatch's.

        Returns each micro-batch with its results, which are taken in by the caller: one that runs out of memory
        may have left part of a gradient, which the next call drops, and nothing else.
        """
        self.optimizers().zero_grad()  # type: ignore[union-attr]
        results: list[tuple[Minibatch, TokenLogprobs, LossOutputs]] = []
        pieces: list[Minibatch | None] = [rows.piece(cut) for cut in self.memory.cuts(rows)]
        pieces = pieces or [None]
        with self.failing_together():
            for piece in pieces[:-1]:
                with self.training_on(piece), self.gradients_stay_local():
                    self.manual_backward(self.loss_of(piece, results))
            with self.training_on(pieces[-1], done=False):
                loss = self.loss_of(pieces[-1], results)
        with self.training_on(pieces[-1]):
            self.manual_backward(loss)
        return results

    def training_on(self, piece: Minibatch | None, *, done: bool = True) -> AbstractContextManager[None]:
        """Around a forward or backward pass over a micro-batch."""
        return nullcontext() if piece is None else self.memory.running("training", piece, tells=done)

    def loss_of(self, piece: Minibatch | None, results: list[tuple[Minibatch, TokenLogprobs, LossOutputs]]) -> Tensor:
        """The loss of a micro-batch, to go backward from; what was measured is added to the results.

        Where nothing is trained on a rank it is 0 for every weight: the rank takes part in the exchange of gradients.
        """
        if piece is None:
            return 0 * torch.stack([parameter.sum() for parameter in self.trained_parameters()]).sum()
        current = self.policy.logprobs(piece)
        assert piece.loss_inputs is not None
        inputs, detached = piece.loss_inputs, current._replace(logprobs=current.logprobs.detach())
        if not self.is_exact and self.takes_one_step:
            inputs = replace(inputs, old_logprobs=detached.logprobs, sampler_logprobs=inputs.old_logprobs)
        outputs = self.loss(current.logprobs, inputs)
        results.append((piece, detached, replace(outputs, loss=outputs.loss.detach())))
        return outputs.loss * self.trainer.world_size  # weights count all ranks, and DDP averages over them

    def failing_together(self) -> AbstractContextManager[None]:
        """Around work in which ranks exchange nothing: an error of one is an error of all."""
        return failing_together(self.trainer.world_size, self.memory.explain)

    def gradients_stay_local(self) -> AbstractContextManager[None]:
        """Under DDP: no exchange of gradients, which the minibatch's last backward pass does for all."""
        strategy = self.trainer.strategy
        return strategy.block_backward_sync() if isinstance(strategy, DDPStrategy) else nullcontext()

    def step_schedule(self) -> float:
        """Go on to the next iteration's learning rate; this one's."""
        schedule = self.lr_schedulers()
        rate = float(schedule.get_last_lr()[0])  # type: ignore[union-attr, arg-type]
        schedule.step()  # type: ignore[union-attr]
        return rate

    @property
    def is_exact(self) -> bool:
        """Whether trainer and sampler give the same logprobs up to rounding in full precision."""
        full = self.policy.base.dtype in (torch.float32, torch.float64)
        return self.sampler.exact and full and self.trainer.precision == "32-true"

    @property
    def takes_one_step(self) -> bool:
        """Whether a rollout is trained on once: that forward pass gives the old logprobs, too."""
        return self.ppo_epochs == self.minibatches == 1

    def validation_step(self, prompts: Prompts, batch_idx: int) -> None:
        """Sample held-out problems; the draws are the same at every evaluation.

        Ranks have different numbers of batches: an error of one waits until they meet at the end.
        """
        if self._validation.error is not None or not len(prompts):
            return
        samples = self.final_eval_samples if self.iteration == self.steps else self.eval_samples
        # No more of a problem at once than training samples: memory that was enough for it is enough here.
        most = max(self.sampler.group_size, self.eval_samples)
        measure = partial(self.measure_heldout, samples=samples, seed=self.seed + 2**31, at_once=most)
        with self._validation.holding(self.trainer.world_size):
            self._heldout += self.memory.sample(
                self.sampler, prompts, lambda sampler: measure(self.policy, sampler, prompts), group=min(samples, most)
            )

    def on_validation_epoch_end(self) -> None:
        """Estimates over the problems of all ranks."""
        self._validation.meet(self.trainer.world_size)
        results = [result for part in gathered(self._heldout, self.trainer.world_size) for result in part]
        self._heldout, self.last_evaluation = [], results
        if not results:
            return
        estimates = heldout.summarize(results)
        self.evaluations[self.iteration] = estimates
        values = {f"heldout/{name}": estimate.value for name, estimate in estimates.items()}
        self.log_dict(values, batch_size=1, sync_dist=True, logger=False)  # for callbacks; the same on all ranks
        for logger in self.trainer.loggers:  # not by log_dict, which counts no step before training
            logger.log_metrics(values, self.iteration)

    def configure_optimizers(self) -> tuple[list[Optimizer], list[LambdaLR]]:
        """The optimizer, and a schedule that is stepped once an iteration."""
        optimizer = self.make_optimizer(self.trained_parameters())
        return [optimizer], [LambdaLR(optimizer, self.schedule)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trained weights alone, and what an exact resume needs beside them."""
        trained = dict(self.named_trained_parameters())
        checkpoint["state_dict"] = {name: checkpoint["state_dict"][name] for name in trained}
        checkpoint["grouprl"] = checkpoint.get("grouprl", {}) | {
            "iteration": self.iteration,
            "skipped_in_a_row": self.finite_steps.in_a_row,
            "limits": self.memory.state_dict(),
            "evaluations": {
                at: {name: list(estimate) for name, estimate in estimates.items()}
                for at, estimates in self.evaluations.items()
            },
            "frozen": self.policy.frozen_fingerprint(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the counters; a checkpoint of other weights than this policy's is refused."""
        missing = {name for name, _ in self.named_trained_parameters()} ^ set(checkpoint["state_dict"])
        if missing:
            raise TrainingError(f"The checkpoint does not hold the trained weights of this policy: {min(missing)}.")
        saved = checkpoint["grouprl"]
        if saved["frozen"] != self.policy.frozen_fingerprint():
            raise TrainingError(
                "The frozen weights (the base model under the adapter, or the reference) are not those the run was "
                "started with. Give policy.path the folder it was started from."
            )
        self.iteration, self.finite_steps.in_a_row = saved["iteration"], saved["skipped_in_a_row"]
        self.memory.load_state_dict(saved.get("limits", self.memory.state_dict()))
        self.evaluations = {
            at: {name: Estimate(*values) for name, values in estimates.items()}
            for at, estimates in saved["evaluations"].items()
        }

    def named_trained_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Name and parameter of all that get gradients."""
        return ((name, parameter) for name, parameter in self.named_parameters() if parameter.requires_grad)

    def trained_parameters(self) -> list[torch.nn.Parameter]:
        """The policy's parameters that get gradients: only the adapter's under LoRA."""
        return [parameter for parameter in self.policy.parameters() if parameter.requires_grad]

    def transfer_batch_to_device(self, batch: Prompts, device: torch.device, dataloader_idx: int) -> Prompts:
        """Prompts hold no tensors."""
        return batch

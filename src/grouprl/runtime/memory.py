"""Out of memory: the option to change and the value to try, or the same work again in smaller pieces.

What is computed at once is bounded by two options, ``micro_batch_tokens`` (training, old and reference logprobs) and
``sampler.max_sequences``. Beyond rounding no result depends on them, so that work for which memory did not suffice can
be done again from its start under a smaller limit. The limit that was found stays for the rest of the run.
"""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from grouprl.batch import Minibatch, Prompts
from grouprl.checks import choice
from grouprl.policy.policy import Policy
from grouprl.progress import tell
from grouprl.runtime import checks
from grouprl.runtime.guards import TrainingError
from grouprl.runtime.measures import Agreed, Measure
from grouprl.runtime.meter import peak_memory
from grouprl.sampling.base import Sampler

OnOutOfMemory = Literal["stop", "halve"]
Limit = Literal["tokens", "sequences"]
_Result = TypeVar("_Result")
_TEXTS = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""In plain RuntimeErrors of torch's CPU allocator, of the CUDA driver and of cuBLAS."""
_log = logging.getLogger(__name__)


class DoesNotFit(Exception):
    """Work that ran out of memory."""

    def __init__(
        self, work: str, options: dict[str, Any], remedies: Sequence[str], limit: Limit | None, smaller: int
    ) -> None:
        """Say what it was.

        Args:
            work: What was done, with its size.
            options: Those that its memory depends on, as they are.
            remedies: ``option=value`` to try, the best first.
            limit: The one of `MemoryLimits` that bounds it, None: none does.
            smaller: The value of the limit that halves the work; 0: it cannot be cut.
        """
        super().__init__(work)
        self.work, self.options, self.remedies, self.limit, self.smaller = work, options, remedies, limit, smaller


class MemoryLimits:
    """How much is computed at once: what the options say, and less once memory did not suffice."""

    def __init__(
        self,
        policy: Policy,
        *,
        micro_batch_size: int = 0,
        micro_batch_tokens: int = 0,
        on_out_of_memory: OnOutOfMemory = "stop",
        sequences_option: str = "sampler.max_sequences",
    ) -> None:
        """Set the limits.

        Args:
            policy: The policy.
            micro_batch_size: Sequences of a forward pass at most, 0: any number.
            micro_batch_tokens: Tokens of a forward pass at most, 0: any number.
            on_out_of_memory: ``stop`` or ``halve``.
            sequences_option: What messages call the sequences decoded at once.

        Raises:
            ValueError: ``on_out_of_memory`` is no choice.
        """
        choice("on_out_of_memory", on_out_of_memory, checks.ON_OUT_OF_MEMORY)
        self.policy, self.on_out_of_memory = policy, on_out_of_memory
        self.names: dict[Limit, str] = {"tokens": "micro_batch_tokens", "sequences": sequences_option}
        """What messages call each limit."""
        self.micro_batch_size, self._option = micro_batch_size, micro_batch_tokens
        self.found: dict[Limit, int] = {"tokens": 0, "sequences": 0}
        """Tokens of a micro-batch, and sequences decoded at once, as halving found them; 0: as the options say."""
        self.halvings = 0
        """Out-of-memory errors that were answered by a smaller limit."""

    @property
    def micro_batch_tokens(self) -> int:
        """Tokens of a micro-batch at most, 0: any number."""
        return _smaller_of(self._option, self.found["tokens"])

    def cuts(self, batch: Minibatch) -> list[Tensor]:
        """Rows of each micro-batch."""
        return list(batch.cuts(self.micro_batch_size, self.micro_batch_tokens))

    def fitting(self, work: Callable[[], _Result]) -> _Result:
        """The result of some work, which is begun again after each halving.

        Args:
            work: Where it raises `DoesNotFit` it leaves no trace, or wipes it out when it is called again.

        Raises:
            TrainingError: Memory did not suffice, and halving is not allowed or does not help.
        """
        while True:
            try:
                return work()
            except DoesNotFit as failure:
                if self.on_out_of_memory == "stop" or not failure.smaller:
                    raise TrainingError(self._message(failure)) from failure
                self._halve(failure)
            # Outside of the handler: the error's traceback holds what the failed forward pass had computed.
            self.policy.release_caches()
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    @contextlib.contextmanager
    def running(self, work: str, batch: Minibatch, *, tells: bool = True) -> Iterator[None]:
        """Around a forward (and backward) pass over one micro-batch: out-of-memory errors become `DoesNotFit`.

        Args:
            work: What is done.
            batch: The micro-batch.
            tells: Whether its tokens are done at the end.
        """
        sequences, tokens = len(batch), batch.tokens  # counted now: later there may be no memory to count in
        with_gradient = torch.is_grad_enabled()

        def failure() -> DoesNotFit:
            smaller = tokens // 2 if sequences > 1 else 0
            remedies = [f"micro_batch_tokens={smaller}"] if smaller else []
            checkpointing = self.policy.gradient_checkpointing
            if with_gradient and not checkpointing and self.policy.has_fast_path:
                remedies.append("policy.gradient_checkpointing=true")
            if not remedies:  # it changes what is trained, and comes where nothing else is left
                remedies = [f"max_new_tokens={max(1, batch.completion_mask.shape[1] // 2)}"]
            options = {
                "micro_batch_tokens": self.micro_batch_tokens,
                "micro_batch_size": self.micro_batch_size,
                "policy.gradient_checkpointing": str(checkpointing).lower(),
            }
            size = f"{sequences} sequences with" if sequences > 1 else "one sequence of"
            return DoesNotFit(f"{work}, {size} {tokens} tokens at once", options, remedies, "tokens", smaller)

        with _becomes(failure):
            yield
        if tells:
            tell(work, tokens)

    @contextlib.contextmanager
    def stepping(self) -> Iterator[None]:
        """Around an optimizer step, which cannot be begun again: out-of-memory errors become `TrainingError`."""

        def failure() -> DoesNotFit:
            trained = sum(parameter.numel() for parameter in self.policy.parameters() if parameter.requires_grad)
            remedies = ["a smaller policy"] if self.policy.has_adapter else ["adapter=lora"]
            return DoesNotFit(f"optimizer step, with its state for {trained} trained weights", {}, remedies, None, 0)

        try:
            with _becomes(failure):
                yield
        except DoesNotFit as failed:
            raise TrainingError(self._message(failed)) from failed

    def sample(
        self, sampler: Sampler, prompts: Prompts, draw: Callable[[Sampler], _Result], *, group: int = 0
    ) -> _Result:
        """What ``draw`` makes with a sampler whose ``max_sequences`` is halved as often as it takes.

        Args:
            sampler: A sampler; where its ``max_sequences`` is 0 there is nothing to halve.
            prompts: What is drawn for.
            draw: Calls the sampler it is given.
            group: Completions of each prompt, 0: the sampler's. Those of one prompt are decoded together.
        """
        group, longest = group or sampler.group_size, sampler.max_new_tokens
        asked = sampler.max_sequences

        def work() -> _Result:
            limit = asked and _smaller_of(asked, self.found["sequences"])
            at_once = group * min(len(prompts), max(1, limit // group) if limit else len(prompts))

            def failure() -> DoesNotFit:
                smaller = at_once // 2 if limit and at_once > group else 0
                # The others change what is trained, and come where nothing else is left.
                changing = f"max_new_tokens={longest // 2}" if longest > 1 else "a smaller prompts_per_step"
                remedies = [f"{self.names['sequences']}={smaller}" if smaller else changing]
                options = {self.names["sequences"]: limit} if limit else {}
                size = f"{at_once} sequence{'s' * (at_once > 1)}" + (
                    f" of up to {longest} new tokens" if longest else ""
                )
                return DoesNotFit(f"sampling, {size} at once", options, remedies, "sequences", smaller)

            with _becomes(failure):
                return draw(sampler if limit == asked else replace(sampler, max_sequences=limit))

        return self.fitting(work)

    def refuse_ranks(self, ranks: int) -> None:
        """Raise a `TrainingError` where several ranks would have to halve together."""
        try:
            checks.halve_on_one_device(self.on_out_of_memory, ranks, "processes")
        except ValueError as error:
            raise TrainingError(str(error)) from error

    def metrics(self) -> dict[str, Measure]:
        """Tokens of a micro-batch at most (0: any number), max_sequences if it was halved (else 0), and halvings."""
        return {
            "limits/micro_batch_tokens": Agreed(float(self.micro_batch_tokens)),  # several ranks never halve
            "limits/max_sequences": Agreed(float(self.found["sequences"])),
            "limits/halvings": Agreed(float(self.halvings)),
        }

    def state_dict(self) -> dict[str, int]:
        """What halving found, for a checkpoint."""
        return {"tokens": self.found["tokens"], "sequences": self.found["sequences"], "halvings": self.halvings}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on with what halving found."""
        self.found = {"tokens": state["tokens"], "sequences": state["sequences"]}
        self.halvings = state["halvings"]

    def explain(self, error: BaseException) -> str | None:
        """What to say of work that did not fit, None of another error."""
        return self._message(error) if isinstance(error, DoesNotFit) else None

    def _halve(self, failure: DoesNotFit) -> None:
        assert failure.limit is not None
        found = self.found[failure.limit]
        assert not found or failure.smaller < found, "the work was larger than its limit, and halving would not end"
        self.found[failure.limit] = failure.smaller
        self.halvings += 1
        _log.warning(
            "Out of memory: %s. It is done again with %s=%d, which stays for the rest of the run.",
            *(failure.work, self.names[failure.limit], failure.smaller),
        )

    def _message(self, failure: DoesNotFit) -> str:
        options = " ".join(f"{option}={value}" for option, value in failure.options.items())
        lines = [f"Out of memory: {failure.work}{f' ({options})' if options else ''}."]
        reason = str(failure.__cause__ or "").strip().partition("\n")[0]
        lines.append(f"{reason[:240]}\n{_peak(self.policy.device)}" if reason else _peak(self.policy.device))
        lines.append(f"Try {' or '.join(failure.remedies)}.")
        if failure.smaller and self.on_out_of_memory == "stop":
            lines.append("Or let on_out_of_memory=halve find what fits, on one device; the result is the same.")
        return "\n".join(lines)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the GPU or of the machine, did not suffice."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)


@contextlib.contextmanager
def _becomes(failure: Callable[[], DoesNotFit]) -> Iterator[None]:
    """Out-of-memory errors become ``failure``; others pass."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise failure() from error


def _smaller_of(option: int, found: int) -> int:
    """The smaller of two limits, of which 0 is none."""
    return min(option or found, found or option)


def _peak(device: torch.device) -> str:
    found = peak_memory()
    if device.type != "cuda":
        return f"Peak memory of this process: {found['memory/peak_mib'].value:.0f} MiB."
    total = torch.cuda.get_device_properties(device).total_memory / 2**20
    return f"Peak memory of the GPU: {found['memory/gpu_peak_mib'].value:.0f} of {total:.0f} MiB."

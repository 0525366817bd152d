"""Before anything is timed: both sides give the logprobs, and grouprl the gradients, that plain transformers gives."""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Iterator

import torch
from side_grouprl import GroupRLSide
from side_trl import TRLSide
from sides import Setting
from torch import Tensor, nn
from workload import SEED, Size, build_prompts, completion_lengths

from grouprl import GroupSampler
from grouprl.batch import Experience, Minibatch
from grouprl.policy.plain import pad_left
from grouprl.policy.policy import Policy

BOUND = 1e-5
"""Of logprobs in nats, and of gradients relative to their norm, in float32."""
LOOSE_BOUND = 0.1
"""Of the same under bfloat16 arithmetic, which keeps 8 bits: this finds mistakes, not rounding."""
_ROUNDING = 3
"""How many times as far from float64 as plain float32 another order of sums may be: 2.3 times was seen on AVX-512."""
_MOST_SEQUENCES = 64
_MOST_LOGITS = 2**28
"""Fewer sequences are compared where their logits would be more than this."""


def check(size: Size, setting: Setting, ours: GroupRLSide, theirs: TRLSide) -> dict:
    """Differences from plain transformers, sequence by sequence and without padding, on the weights of both sides.

    In float32 each must be within `BOUND`, or else no farther from the same computed in float64 than three times as
    far as plain float32 is, which is then said in ``notes``. Under bfloat16, grouprl is held to `BOUND` in float32 and
    both sides to `LOOSE_BOUND` in bfloat16.

    Raises:
        SystemExit: A difference is larger.
    """
    _equal_weights(ours.model, theirs.model, perturb=setting.lora)
    batch = _forced_batch(size, ours.policy)
    mask = batch.completion_mask
    generator = torch.Generator().manual_seed(SEED)
    weights = torch.randn(mask.shape, generator=generator).to(mask.device) / mask.sum()
    found: dict = {"sequences": len(batch), "tokens": int(mask.sum()), "bound": BOUND, "notes": []}
    found["sampler_logprobs"] = _sampler_difference(size, setting, ours.policy, found["notes"])

    plain, plain_grads = _plain(ours.model, batch, weights)
    fast, fast_grads = _ours(ours, batch, weights)
    found["logprobs"] = _difference(fast, plain, mask)
    found |= _worst(fast_grads, plain_grads)
    if not setting.bf16:
        trl = _theirs(theirs, batch)
        found["trl_logprobs"] = _difference(trl, plain, mask)
    if setting.beta:
        found["reference_logprobs"] = _reference_difference(setting, ours, theirs, batch)
    if max(found["logprobs"], found["gradients"], found.get("trl_logprobs", 0.0)) > BOUND:
        exact, exact_grads = _plain(copy.deepcopy(ours.model).double(), batch, weights.double())
        errors = {
            "logprobs": (_difference(fast, exact, mask), _difference(plain, exact, mask)),
            "gradients": (_worst(fast_grads, exact_grads)["gradients"], _worst(plain_grads, exact_grads)["gradients"]),
        }
        if not setting.bf16:
            errors["trl_logprobs"] = (_difference(trl, exact, mask), errors["logprobs"][1])
        for name, (error, plain_error) in errors.items():
            if found[name] <= BOUND:
                continue
            note = (
                f"{name}: {found[name]:.1e} from plain float32, above {BOUND:.0e}; {error:.1e} from float64, where "
                f"plain float32 is {plain_error:.1e} from it"
            )
            if error > max(BOUND, _ROUNDING * plain_error):
                raise SystemExit(f"Not equal to plain transformers, {note}. Nothing was timed.")
            found["notes"].append(note)
    if setting.bf16:
        with torch.autocast(ours.policy.device.type, torch.bfloat16):
            low, low_grads = _ours(ours, batch, weights)
            plainly_low = _difference(_plain_logprobs(ours.policy.model, batch), plain, mask)
        # Of a trained model bfloat16 moves single logprobs by more than of random weights, on the plain path too.
        found["bf16_bound"] = max(LOOSE_BOUND, 2 * plainly_low)
        found["bf16_logprobs"] = _difference(low, plain, mask)
        found["bf16_gradients"] = _whole(low_grads, plain_grads)
        found["bf16_trl_logprobs"] = _difference(_theirs(theirs, batch), plain, mask)
        for name in ("bf16_logprobs", "bf16_gradients", "bf16_trl_logprobs"):
            if not found[name] <= (found["bf16_bound"] if name.endswith("logprobs") else LOOSE_BOUND):
                raise SystemExit(f"Not equal to plain transformers: {name} {found[name]:.1e}. Nothing was timed.")
    return found


def describe(found: dict) -> str:
    """One line about what `check` gave."""
    text = (
        f"{found['sequences']} sequences, {found['tokens']} completion tokens, float32: largest difference of a "
        f"logprob {found['logprobs']:.1e}, of a parameter's gradient {found['gradients']:.1e} of its norm "
        f"(`{found['worst_parameter']}`)"
    )
    if "trl_logprobs" in found:
        text += f"; TRL's logprobs {found['trl_logprobs']:.1e}"
    if "reference_logprobs" in found:
        text += f"; both references' logprobs {found['reference_logprobs']:.1e}"
    text += f"; bound {found['bound']:.0e}. Sampled freely, {'in the mean ' if 'bf16_bound' in found else ''}"
    text += f"{found['sampler_logprobs']:.1e} between the logprobs of sampler and trainer."
    if "bf16_bound" in found:
        text += (
            f" bfloat16 against float32, loose bound {found['bf16_bound']:.0e}: logprobs {found['bf16_logprobs']:.1e}, "
            f"the whole gradient {found['bf16_gradients']:.1e}, TRL's logprobs {found['bf16_trl_logprobs']:.1e}."
        )
    return " ".join([text, *(f"**{note}.**" for note in found["notes"])])


@torch.no_grad()
def _reference_difference(setting: Setting, ours: GroupRLSide, theirs: TRLSide, batch: Minibatch) -> float:
    """The larger of both references' differences from plain transformers, in float32."""
    if setting.lora:
        with ours.model.disable_adapter(), theirs.model.disable_adapter():
            plain, trl = _plain_logprobs(ours.model, batch), _theirs(theirs, batch, theirs.model)
    else:
        plain, trl = _plain_logprobs(ours.policy.reference, batch), _theirs(theirs, batch, theirs.trainer.ref_model)
    mask = batch.completion_mask
    found = max(_difference(logprobs, plain, mask) for logprobs in (ours.policy.reference_logprobs(batch), trl))
    if not found <= BOUND:
        raise SystemExit(f"A reference's logprobs are {found:.1e} from plain transformers'. Nothing was timed.")
    return found


@torch.no_grad()
def _sampler_difference(size: Size, setting: Setting, policy: Policy, notes: list[str]) -> float:
    """Between recorded and recomputed logprobs of freely sampled completions: what is timed samples the policy.

    The largest in float32, held to twice `BOUND`, or else each no farther from the same in float64 than three times
    as far as plain float32 is; the mean under bfloat16, held to a fifth of `LOOSE_BOUND`.
    """
    sampler = GroupSampler(group_size=size.group, max_new_tokens=min(32, size.new_tokens[1]))
    prompts = build_prompts(size)
    with torch.autocast(policy.device.type, torch.bfloat16, enabled=setting.bf16, cache_enabled=False):
        rollouts = sampler(policy, prompts, seed=SEED)
        scores = torch.zeros_like(rollouts.truncated, dtype=torch.float32)
        batch = Experience(rollouts, scores, ~torch.zeros_like(rollouts.truncated)).minibatch(
            torch.arange(len(prompts), device=policy.device), scores
        )
        logprobs = policy.logprobs(batch).logprobs
    assert batch.loss_inputs is not None
    recorded = batch.loss_inputs.old_logprobs
    difference = (logprobs - recorded)[batch.drawn].abs()
    found, bound = (difference.mean(), LOOSE_BOUND / 5) if setting.bf16 else (difference.max(), 2 * BOUND)
    if not setting.bf16 and found > bound:
        exact = _plain_logprobs(copy.deepcopy(policy.model).double(), batch)
        errors = [_difference(part, exact, batch.drawn) for part in (logprobs, recorded)]
        plain = _difference(_plain_logprobs(policy.model, batch), exact, batch.drawn)
        bound = math.inf if max(errors) <= max(BOUND, _ROUNDING * plain) else bound
        notes.append(
            f"sampler: {float(found):.1e} from the trainer, above {2 * BOUND:.0e}; trainer {errors[0]:.1e} and sampler "
            f"{errors[1]:.1e} from float64, where plain float32 is {plain:.1e} from it"
        )
    if not found <= bound:
        print(*notes, sep="\n", file=sys.stderr)
        raise SystemExit(f"The sampler's logprobs are {float(found):.1e} from the trainer's. Nothing was timed.")
    return float(found)


def _equal_weights(ours: nn.Module, theirs: nn.Module, *, perturb: bool) -> None:
    """See that both sides hold the same weights, and let them do so where adapters were drawn."""
    if perturb:
        # A fresh adapter gives 0, and no gradient for half of its weights.
        torch.manual_seed(SEED)
        with torch.no_grad():
            for name, parameter in ours.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.02)
        theirs.load_state_dict(ours.state_dict())
    others = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert torch.equal(parameter, others.pop(name)), f"The sides start from other weights: {name}"
    assert not others, f"Weights of TRL's side alone: {sorted(others)}"


def _forced_batch(size: Size, policy: Policy) -> Minibatch:
    """Groups with random completions of the lengths that are forced in sampling."""
    lengths, prompts = completion_lengths(size), build_prompts(size)
    width = int(lengths.max())
    per_group = size.group * width * size.vocabulary
    groups = max(1, min(size.prompts, _MOST_SEQUENCES // size.group, _MOST_LOGITS // per_group))
    mask = torch.arange(width) < lengths[: groups * size.group].unsqueeze(-1)
    generator = torch.Generator().manual_seed(SEED)
    token_ids = torch.randint(2, size.vocabulary, mask.shape, generator=generator)
    token_ids[torch.arange(len(mask)), mask.sum(-1) - 1] = size.eos
    prompt_ids, prompt_mask = pad_left(prompts.token_ids[:groups], policy.tokenizer.pad_token_id, policy.device)
    return Minibatch(
        prompt_ids=prompt_ids.repeat_interleave(size.group, 0),
        prompt_mask=prompt_mask.repeat_interleave(size.group, 0),
        completion_ids=token_ids.masked_fill(~mask, 0).to(policy.device),
        completion_mask=mask.to(policy.device),
    )


def _plain(model: nn.Module, batch: Minibatch, weights: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Logprobs [sequences, tokens] and gradients of their weighted sum, from one unpadded sequence at a time."""
    model.zero_grad(set_to_none=True)
    logprobs = torch.zeros_like(weights)
    for row in range(len(batch)):
        found = _plain_row(model, batch, row)
        (found * weights[row, : len(found)]).sum().backward()
        logprobs[row, : len(found)] = found.detach()
    return logprobs, _take_grads(model)


def _plain_logprobs(model: nn.Module, batch: Minibatch) -> Tensor:
    """Logprobs [sequences, tokens] from one unpadded sequence at a time."""
    dtype = next(model.parameters()).dtype
    logprobs = torch.zeros(batch.completion_mask.shape, device=batch.completion_mask.device, dtype=dtype)
    for row in range(len(batch)):
        found = _plain_row(model, batch, row)
        logprobs[row, : len(found)] = found
    return logprobs


def _plain_row(model: nn.Module, batch: Minibatch, row: int) -> Tensor:
    prompt = batch.prompt_ids[row][batch.prompt_mask[row]]
    completion = batch.completion_ids[row][batch.completion_mask[row]]
    logits = model(input_ids=torch.cat([prompt, completion])[None], use_cache=False).logits[0]
    return logits[len(prompt) - 1 : -1].log_softmax(-1).gather(-1, completion[:, None]).squeeze(-1)


def _ours(side: GroupRLSide, batch: Minibatch, weights: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    side.model.zero_grad(set_to_none=True)
    logprobs = side.policy.logprobs(batch).logprobs
    (logprobs * weights).sum().backward()
    return logprobs.detach(), _take_grads(side.model)


@torch.no_grad()
def _theirs(side: TRLSide, batch: Minibatch, model: nn.Module | None = None) -> Tensor:
    logprobs, *_ = side.trainer._get_per_token_logps_and_entropies(
        model or side.model,
        torch.cat([batch.prompt_ids, batch.completion_ids], 1),
        torch.cat([batch.prompt_mask, batch.completion_mask], 1).long(),
        batch.completion_ids.shape[1],
    )
    return logprobs


def _take_grads(model: nn.Module) -> dict[str, Tensor]:
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    missing = [name for name, parameter in trained if parameter.grad is None]
    assert not missing, f"No gradient: {missing}"
    # A GPU that has room for training may have none for several gradients: then in the host's memory, which is slow.
    size = sum(parameter.grad.nbytes for _, parameter in trained)
    device = trained[0][1].device
    keeps = device.type == "cuda" and torch.cuda.mem_get_info(device)[0] > 8 * size
    grads = {name: parameter.grad if keeps else parameter.grad.cpu() for name, parameter in trained}
    model.zero_grad(set_to_none=True)
    return grads


def _difference(a: Tensor, b: Tensor, mask: Tensor) -> float:
    return float((a.double() - b.double())[mask].abs().max())


def _worst(grads: dict[str, Tensor], reference: dict[str, Tensor]) -> dict:
    """The largest relative difference of a parameter's gradient, and that parameter."""
    differences = {}
    for name, actual, expected in _pairs(grads, reference):
        norm = expected.norm()
        assert norm > 0, f"The reference's gradient is 0: {name}"
        differences[name] = float((actual - expected).norm() / norm)
    worst = max(differences, key=lambda name: differences[name])
    return {"gradients": differences[worst], "worst_parameter": worst, "parameters": len(differences)}


def _whole(grads: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
    """Relative difference of the gradient of all parameters together."""
    squares = [
        ((actual - expected).square().sum(), expected.square().sum())
        for _, actual, expected in _pairs(grads, reference)
    ]
    difference, norm = torch.tensor(squares).sum(0).sqrt().tolist()
    return difference / norm


def _pairs(grads: dict[str, Tensor], reference: dict[str, Tensor]) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Names with both gradients in float64, on the GPU where there is one: a CPU takes a minute for 1.5B weights."""
    assert grads.keys() == reference.keys()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name, expected in reference.items():
        yield name, grads[name].to(device).double(), expected.to(device).double()

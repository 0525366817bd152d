import pytest
import torch
from helpers.batches import batch_of
from helpers.models import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from grouprl.batch import LossInputs, Minibatch
from grouprl.policy.plain import PlainSteps, completion_logprobs


@pytest.mark.parametrize("kind", ["qwen2", "llama", "gpt2"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_each_token_alone_without_padding_is_the_reference(kind, temperature):
    """One forward pass a token on the unpadded prefix: catches shifts, padded positions and a missing temperature."""
    model = random_model(kind).eval()
    prompts = [[5, 6, 7, 8, 9, 10, 11], [20, 21]]
    completions = [[30, 31, 2], [40, 41, 42, 43, 44]]
    actual = completion_logprobs(model, batch_of(prompts, completions), temperature)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        for t, token in enumerate(completion):
            with torch.no_grad():
                logits = model(torch.tensor([prompt + completion[:t]])).logits[0, -1] / temperature
            expected = logits.log_softmax(-1)
            assert abs(float(actual.logprobs[row, t].detach() - expected[token])) < 1e-5
            assert abs(float(actual.entropy[row, t] + (expected.exp() * expected).sum())) < 1e-4
        assert torch.count_nonzero(actual.logprobs[row, len(completion) :]) == 0


@pytest.mark.parametrize("kind", ["qwen2", "gpt2"])
def test_under_autocast_and_of_narrow_weights_the_head_is_float32(kind):
    """Its logits are those of the hidden states that the layers gave in bfloat16, to more digits than bfloat16 has."""
    batch, seen = batch_of([[5, 6, 7]], [[30, 31, 32]]), []
    for narrow in (False, True):
        model = random_model(kind).eval()
        model = model.bfloat16() if narrow else model
        head = model.get_output_embeddings()
        original = torch.nn.functional.linear

        def recorded(x, weight, bias=None, head=head, original=original):
            if weight.shape == head.weight.shape:
                seen.append((x, weight))
            return original(x, weight, bias)

        with (
            torch.autocast("cpu", torch.bfloat16, enabled=not narrow),
            torch.no_grad(),
            pytest.MonkeyPatch.context() as m,
        ):
            m.setattr("grouprl.policy.plain.linear", recorded)
            found = completion_logprobs(model, batch, 0.7).logprobs
            steps = PlainSteps(model, [[5, 6, 7]], 1, 0)
            assert {steps.prefill().dtype, steps.step(torch.tensor([30])).dtype} == {torch.float32}
        assert seen[1][1] is seen[2][1]  # widened once for all steps
        x, weight = seen[0]
        assert x.dtype == weight.dtype == torch.float32
        exact = (
            (x.double() @ weight.double().T / 0.7).log_softmax(-1)[0, :3].gather(-1, batch.completion_ids[0, :, None])
        )
        torch.testing.assert_close(found[0].double(), exact.squeeze(-1), atol=1e-5, rtol=0)
        seen.clear()
        assert "forward" not in vars(head)


def test_changing_a_token_leaves_earlier_logprobs_alone():
    model = random_model("qwen2").eval()
    base = completion_logprobs(model, batch_of([[5, 6]], [[30, 31, 32, 33]])).logprobs
    changed = completion_logprobs(model, batch_of([[5, 6]], [[30, 31, 99, 33]])).logprobs
    assert torch.equal(base[0, :2], changed[0, :2])
    assert (base[0, 2:] != changed[0, 2:]).all()


def test_padding_value_and_neighbours_do_not_matter():
    model = random_model("gpt2").eval()
    prompts, completions = [[5, 6, 7, 8], [20]], [[30, 31], [40, 41, 42]]
    together = completion_logprobs(model, batch_of(prompts, completions, pad=0)).logprobs
    other_pad = completion_logprobs(model, batch_of(prompts, completions, pad=17)).logprobs
    alone = completion_logprobs(model, batch_of(prompts[1:], completions[1:])).logprobs
    torch.testing.assert_close(together, other_pad, atol=1e-6, rtol=0)
    torch.testing.assert_close(together[1:], alone, atol=1e-6, rtol=0)


def test_micro_batches_hold_each_sequence_once_and_trimmed():
    batch = batch_of([[5] * 3, [6], [7] * 5, [8] * 2], [[30], [31] * 4, [32] * 2, [33] * 9])
    pieces = list(batch.micro_batches(2))
    assert [len(piece) for piece in pieces] == [2, 2]
    for piece in pieces:
        assert piece.prompt_mask.any(0).all()
        assert piece.completion_mask.any(0).all()
    seen = sorted(
        int(row[mask][0]) for p in pieces for row, mask in zip(p.completion_ids, p.completion_mask, strict=True)
    )
    assert seen == [30, 31, 32, 33]
    assert len(list(batch.micro_batches(0))) == 1


@st.composite
def cut_batches(draw):
    """A batch of groups, some larger than the limits, with a prompt of their own each; and the limits."""
    shapes = draw(
        st.lists(
            st.tuples(st.integers(1, 9), st.lists(st.integers(1, 12), min_size=1, max_size=5)), min_size=1, max_size=6
        )
    )
    prompts = [[100 + number] * length for number, (length, lengths) in enumerate(shapes) for _ in lengths]
    completions = [[7] * length for _, lengths in shapes for length in lengths]
    return batch_of(prompts, completions), draw(st.integers(0, 8)), draw(st.integers(0, 60))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(cut_batches())
def test_cuts_hold_each_sequence_once_and_whole_groups_where_they_fit(case):
    batch, sequences, tokens = case
    cuts = [rows.tolist() for rows in batch.cuts(sequences, tokens)]
    assert sorted(row for rows in cuts for row in rows) == list(range(len(batch)))
    group_of = (batch.new_prompt.long().cumsum(0) - 1).tolist()

    def fits(rows):
        piece = batch.piece(torch.tensor(rows))
        # By hand: each distinct prompt once, and the completions.
        prompts = {group_of[row]: int(batch.prompt_mask[row].sum()) for row in rows}
        assert piece.tokens == sum(prompts.values()) + int(batch.completion_mask[rows].sum())
        return len(rows) <= (sequences or len(rows)) and piece.tokens <= (tokens or piece.tokens)

    assert all(fits(rows) or len(rows) == 1 for rows in cuts)
    for group in set(group_of):
        members = [row for row, other in enumerate(group_of) if other == group]
        pieces = [rows for rows in cuts if set(rows) & set(members)]
        assert len(pieces) == 1 or not fits(members)
    for rows, piece in zip(cuts, batch.micro_batches(sequences, tokens), strict=True):
        assert torch.equal(piece.completion_mask.sum(-1), batch.completion_mask[rows].sum(-1))


def test_rows_without_an_advantage_are_dropped():
    batch = batch_of([[5], [6]], [[30], [31]])
    mask = batch.completion_mask
    inputs = LossInputs(torch.zeros(2, 1), torch.tensor([0.0, 0.5]), mask, torch.ones(2))
    kept = Minibatch(batch.prompt_ids, batch.prompt_mask, batch.completion_ids, mask, inputs).with_signal()
    assert kept.completion_ids.tolist() == [[31]]
    assert kept.loss_inputs.advantages.tolist() == [0.5]

"""The parts of experiments on models: tasks, probes, patches, spectra and reachable tokens."""

import pytest
import torch
from sklearn.linear_model import Ridge

from exploration import (
    answering_models,
    bigbird_distance,
    logit_lens,
    low_rank,
    name_attention,
    name_patching,
    place_probe,
    trigonometric_training,
)
from exploration.recall_task import recall_batch
from exploration.training import tiny_model

SIZES = {**answering_models.SIZES, **answering_models.SMALL}


@pytest.fixture(scope="module")
def models():
    return answering_models.answering_models(SIZES)


@pytest.fixture(scope="module")
def people(models):
    return next(iter(models.values())).people


def test_each_answer_of_the_recall_task_was_told_with_its_key():
    batch = recall_batch(50, 4, 8, seed=0)
    for ids, labels in zip(batch["input_ids"].tolist(), batch["shift_labels"].tolist(), strict=True):
        told = dict(zip(ids[0:8:2], ids[1:8:2], strict=True))
        assert len(told) == 4
        assert [labels[place] for place in range(8, 16, 2)] == [told[ids[place]] for place in range(8, 16, 2)]
        assert sum(label >= 0 for label in labels) == 4 and all(8 <= value < 16 for value in told.values())


def test_held_out_people_are_in_the_lines_and_never_asked_about(people):
    asked = {people.tokenizer.decode(example["input_ids"]) for example in people.asked}
    lines = [people.tokenizer.decode(example["input_ids"]) for example in people.lines]
    for row in people.held_out:
        assert not any(row["name"] in text for text in asked)
        assert any(row["name"] in text for text in lines)
    assert all(any(row["name"] in text for text in asked) for row in people.trained)


def test_places_are_shared_evenly_and_differ_in_their_first_token(people):
    rows = people.trained + people.held_out
    assert len({people.answer_token(row) for row in rows}) == len(people.places) == SIZES["places"]
    counts = [sum(row["answer"] == place for row in rows) for place in people.places]
    assert max(counts) - min(counts) <= 1


def test_the_place_of_a_name_is_where_its_tokens_are(people):
    for row in people.held_out[:10]:
        tokens, place = people.prompt(row), people.name_place(row)
        assert people.tokenizer.decode([tokens[index] for index in place]).strip() == row["name"]


def test_snapshots_are_the_weights_on_the_way(models):
    answering = models["softmax"]
    weight = answering.model.lm_head.weight
    end = weight.clone()
    with answering.at(0):
        assert not torch.equal(weight, end)
    assert torch.equal(weight, end) and max(answering.snapshots) == SIZES["steps"]


@pytest.mark.parametrize("kind", SIZES["kinds"])
def test_the_lens_after_the_last_layer_is_the_output(models, people, kind):
    model, tokens = models[kind].model, people.prompt(people.held_out[0])
    states = answering_models.layer_states(model, tokens)
    logits = model.lm_head(model.model.norm(states[-1]))
    assert torch.allclose(logits, model(input_ids=torch.tensor([tokens])).logits[0], atol=1e-5)
    found = logit_lens.lens(models[kind])[logit_lens.ANSWER]["right"]
    assert found[-1] == pytest.approx(answering_models.held_out_accuracy(models[kind]))


@pytest.mark.parametrize("kind", SIZES["kinds"])
def test_patching_everything_gives_the_output_of_the_other_prompt(models, people, kind):
    model = models[kind].model
    one, other = name_patching.pairs_of(models[kind])[0]
    tokens, others = people.prompt(one), people.prompt(other)
    assert tokens != others and len(tokens) == len(others)
    states = answering_models.layer_states(model, others)
    own, expected = (model(input_ids=torch.tensor([ids])).logits for ids in (tokens, others))
    for layer, module in enumerate(answering_models.patch_points(model)):
        with name_patching.patched(module, list(range(len(tokens))), states[layer]):
            assert torch.allclose(model(input_ids=torch.tensor([tokens])).logits, expected, atol=1e-5)
    assert torch.equal(model(input_ids=torch.tensor([tokens])).logits, own)


def test_the_weights_on_a_name_are_those_of_its_tokens(models, people):
    rows = people.held_out[:3]
    found = name_attention.weights_on_name(models["softmax"], rows)
    for layer, (whole, last) in enumerate(found):
        assert 0 < last < whole < 1, layer


def test_the_probe_is_ridge_regression():
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(30, 6, generator=generator, dtype=torch.float64)
    classes = torch.randint(4, (30,), generator=generator)
    matrix, bias = place_probe.fit_probe(states, classes, 4)
    scale = (states - states.mean(dim=0)).norm(dim=-1).mean()
    targets = torch.nn.functional.one_hot(classes, 4).numpy()
    expected = Ridge(alpha=place_probe.PENALTY).fit((states / scale).numpy(), targets).predict((states / scale).numpy())
    assert torch.allclose(states @ matrix + bias, torch.from_numpy(expected))


def test_the_probe_finds_classes_that_are_linear_and_guesses_where_there_are_none():
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(5, (2, 400), generator=generator)
    states = torch.nn.functional.one_hot(classes, 5).float() @ torch.randn(5, 20, generator=generator)
    noise = torch.randn(2, 400, 20, generator=generator)
    assert place_probe.probe_accuracy(*(3 * states + 0.1 * noise), tuple(classes)) > 0.95
    assert place_probe.probe_accuracy(*noise, tuple(classes)) < 0.35


@pytest.mark.parametrize(("rank", "share"), [(1, 1.0), (8, 1.0), (32, 0.25), (16, 0.5)])
def test_the_largest_quarter_of_equal_singular_values_is_a_quarter_of_the_matrix_over_the_rank(rank, share):
    rotation = torch.linalg.qr(torch.randn(32, 32, dtype=torch.float64)).Q
    values = torch.zeros(32, dtype=torch.float64)
    values[:rank] = 2.0
    assert low_rank.share_of_largest(rotation @ values.diag() @ rotation.T) == pytest.approx(share)


@pytest.mark.parametrize("form", [bigbird_distance.CAUSAL, bigbird_distance.BIDIRECTIONAL])
@pytest.mark.parametrize("pattern", [bigbird_distance.WINDOW, bigbird_distance.GLOBAL, bigbird_distance.RANDOM])
def test_reachable_tokens_are_those_with_a_gradient(form, pattern):
    sizes = {**bigbird_distance.EXPERIMENT.sizes, "length": 32}
    reader = bigbird_distance.seeded_model(
        lambda: bigbird_distance.Reader(bigbird_distance.settings_of(form, pattern, sizes)), 0
    ).double()
    embeds = torch.randn(1, 32, reader.model.config.hidden_size, dtype=torch.float64, requires_grad=True)
    output = reader.model(inputs_embeds=embeds, use_cache=False).last_hidden_state[0].square().sum(dim=-1)
    gradients = [torch.autograd.grad(value, embeds, retain_graph=True)[0][0] for value in output]
    has_gradient = torch.stack(gradients).abs().sum(dim=-1) > 0
    assert torch.equal(has_gradient, bigbird_distance.reachable(reader, 32))


def test_the_value_is_asked_of_every_token_that_may_see_it():
    for is_causal in (True, False):
        batch = bigbird_distance.needle_batch(20, 16, is_causal, seed=0)
        for ids, labels, place in zip(*batch.values(), strict=True):
            assert int((ids < bigbird_distance.VALUES).sum()) == 1 and ids[place] < bigbird_distance.VALUES
            first = int(place) if is_causal else 0
            assert (labels[:first] == -100).all() and (labels[first:] == ids[place]).all()


@pytest.mark.parametrize("kind", ["positive", "relu"])
def test_rows_of_positive_features_are_possible_at_any_score(kind):
    sizes = trigonometric_training.EXPERIMENT.sizes
    model = tiny_model(
        0, vocab_size=16, num_hidden_layers=1, canon_width=4, attention_type="performer", performer_kind=kind
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert trigonometric_training.impossible_rows(model, sizes) == [0.0] * len(sizes["factors"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

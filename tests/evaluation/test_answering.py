import itertools

import pytest
import torch
from accelerate import Accelerator
from processes import in_two_processes
from tokenizers import processors
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from birthgpt import BirthGPTConfig, BirthGPTForCausalLM
from birthgpt.data.tokenizers import train_character_tokenizer
from birthgpt.evaluation.answering import answer_questions, check_question_lengths

BLOCK_SIZE = 24
# the lengths are different and not sorted; the last question leaves room for two tokens
QUESTIONS = [
    "abc de",
    "a",
    "bad cab aced",
    "ee",
    "deca",
    "a b c d e",
    "cabbage"[:5],
    "abcde abcde abcde abcde"[:22],
]


@pytest.fixture(autouse=True)
def one_thread():
    # such small models are slower with a second thread, especially on a busy machine
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_tokenizer(characters=" abcde"):
    return train_character_tokenizer([characters], BLOCK_SIZE)


def make_model(kind, vocab_size=10):
    sizes = {"vocab_size": vocab_size, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 3}
    # large initial weights cause answers of different lengths
    if kind == "gpt2":
        config = GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=BLOCK_SIZE, initializer_range=0.6, **sizes)
        model_class = GPT2LMHeadModel
    elif kind == "llama":
        config = LlamaConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=BLOCK_SIZE,
            initializer_range=0.6,
            **sizes,
        )
        model_class = LlamaForCausalLM
    else:
        config = BirthGPTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=BLOCK_SIZE,
            initializer_range=0.6,
            **sizes,
        )
        model_class = BirthGPTForCausalLM
    torch.manual_seed(2)
    return model_class(config).eval()


@torch.no_grad()
def log_probabilities(model, token_ids):
    """Log p of every token after the first, by one forward pass without padding or cache."""
    logits = model(input_ids=torch.tensor([token_ids[:-1]])).logits[0]
    return logits.log_softmax(-1)[range(len(token_ids) - 1), token_ids[1:]]


@torch.no_grad()
def greedy_by_hand(model, tokenizer, question, budget):
    """The answer, its log probability and its tokens, each from a forward pass over all tokens before it."""
    token_ids = tokenizer(f"{question}⁇")["input_ids"]
    answer_ids = []
    while len(answer_ids) < budget and tokenizer.eos_token_id not in answer_ids:
        answer_ids.append(int(model(input_ids=torch.tensor([token_ids + answer_ids])).logits[0, -1].argmax()))
    log_probability = log_probabilities(model, token_ids + answer_ids)[len(token_ids) - 1 :].sum().item()
    return tokenizer.decode(answer_ids).split(tokenizer.eos_token)[0].strip(), log_probability, answer_ids


class BigramModel(GPT2LMHeadModel):
    """Predicts the next token that `follow` contains, with probability one half."""

    def __init__(self, follow, vocab_size):
        super().__init__(GPT2Config(vocab_size=vocab_size, n_embd=2, n_layer=1, n_head=1, n_positions=BLOCK_SIZE))
        self.table = torch.zeros(vocab_size, vocab_size)
        for token, following in follow.items():
            # e^x / (e^x + n - 1) = 1/2
            self.table[token, following] = torch.tensor(vocab_size - 1.0).log()

    def forward(self, input_ids, past_key_values=None, **kwargs):
        return CausalLMOutputWithPast(logits=self.table[input_ids], past_key_values=past_key_values)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "birthgpt"])
@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_answers_and_log_probabilities_are_those_of_one_question_at_a_time(kind, batch_size):
    model, tokenizer = make_model(kind), make_tokenizer()
    answers = answer_questions(model, tokenizer, QUESTIONS, batch_size=batch_size, max_new_tokens=12)

    # rotary positions have no limit; learned positions have one, but the last token is never an input
    learned = kind != "llama"
    lengths = [len(question) + 1 for question in QUESTIONS]
    budgets = [min(12, BLOCK_SIZE - length + 1) if learned else 12 for length in lengths]
    expected = [
        greedy_by_hand(model, tokenizer, question, budget) for question, budget in zip(QUESTIONS, budgets, strict=True)
    ]
    assert [answer.text for answer in answers] == [text for text, _, _ in expected]
    assert [answer.log_probability for answer in answers] == pytest.approx(
        [log_probability for _, log_probability, _ in expected], abs=1e-4
    )
    # the questions have both closed answers and answers that are cut off by the limit
    assert len({tokenizer.eos_token_id in answer_ids for _, _, answer_ids in expected}) == 2


def test_an_answer_is_the_text_before_the_eos_token_without_outer_spaces():
    tokenizer = make_tokenizer("?ab ")
    vocabulary = tokenizer.get_vocab()
    follow = {"⁇": " ", " ": "b", "b": "a", "a": "␃"}
    model = BigramModel({vocabulary[k]: vocabulary[v] for k, v in follow.items()}, len(vocabulary))
    (answer,) = answer_questions(model, tokenizer, ["b?"])
    assert answer.text == "ba"
    # space, b, a and ␃, each of probability one half
    assert answer.log_probability == pytest.approx(torch.tensor(0.5**4).log().item())


def test_a_pad_token_inside_an_answer_stays_visible():
    tokenizer = make_tokenizer("?ab")
    vocabulary = tokenizer.get_vocab()
    follow = {"⁇": "a", "a": "□", "□": "b", "b": "␃"}
    model = BigramModel({vocabulary[k]: vocabulary[v] for k, v in follow.items()}, len(vocabulary))
    (answer,) = answer_questions(model, tokenizer, ["?"])
    assert answer.text == "a□b"


def test_enough_beams_find_the_most_probable_of_all_answers():
    model, tokenizer = make_model("gpt2", vocab_size=6), make_tokenizer("ab")
    questions, eos = ["ab", "b", "aab", "ba", "bbbb", "a"], tokenizer.eos_token_id

    def most_probable(question):
        prompt = tokenizer(f"{question}⁇")["input_ids"]
        complete = [
            sequence[:length]
            for length in (1, 2, 3)
            for sequence in itertools.product(range(6), repeat=length)
            if eos not in sequence[:-1] and (length == 3 or sequence[-1] == eos)
        ]
        scores = [log_probabilities(model, prompt + list(ids))[len(prompt) - 1 :].sum().item() for ids in complete]
        best = max(range(len(complete)), key=scores.__getitem__)
        return tokenizer.decode(complete[best]).split("␃")[0].strip(), scores[best]

    answers = answer_questions(model, tokenizer, questions, max_new_tokens=3, num_beams=20)
    expected = [most_probable(question) for question in questions]
    assert [answer.text for answer in answers] == [text for text, _ in expected]
    assert [answer.log_probability for answer in answers] == pytest.approx(
        [log_probability for _, log_probability in expected], abs=1e-4
    )
    # greedy decoding does not find all of these answers
    assert answers != answer_questions(model, tokenizer, questions, max_new_tokens=3)


def test_the_generation_config_of_the_model_changes_no_answer():
    model, tokenizer = make_model("gpt2"), make_tokenizer()
    expected = answer_questions(model, tokenizer, QUESTIONS)
    own = GenerationConfig(
        do_sample=True,
        temperature=2.0,
        repetition_penalty=5.0,
        max_length=9,
        num_beams=3,
        suppress_tokens=[1, 3],
    )
    model.generation_config = own
    assert answer_questions(model, tokenizer, QUESTIONS) == expected
    assert model.generation_config is own


def test_training_mode_and_padding_side_are_unchanged():
    model, tokenizer = make_model("gpt2"), make_tokenizer()
    tokenizer.padding_side = "right"
    expected = answer_questions(model, tokenizer, QUESTIONS)
    model.train()
    model.transformer.drop.eval()
    assert answer_questions(model, tokenizer, QUESTIONS) == expected
    assert model.training and not model.transformer.drop.training
    assert tokenizer.padding_side == "right"


def test_weights_that_are_not_finite_are_an_error_and_leave_the_model_in_training():
    model, tokenizer = make_model("gpt2").train(), make_tokenizer()
    torch.nn.init.constant_(model.transformer.wte.weight, float("nan"))
    with pytest.raises(ValueError, match="not finite, or equal for all tokens"):
        answer_questions(model, tokenizer, QUESTIONS)
    assert model.training


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("bias", [0.0, float("nan"), float("inf")])
def test_scores_that_rank_no_token_are_an_error(num_beams, bias):
    model, tokenizer = make_model("gpt2"), make_tokenizer()
    # a head without weights
    model.lm_head = torch.nn.Linear(model.config.n_embd, model.config.vocab_size)
    torch.nn.init.zeros_(model.lm_head.weight)
    torch.nn.init.constant_(model.lm_head.bias, bias)
    with pytest.raises(ValueError, match="not finite, or equal for all tokens"):
        answer_questions(model, tokenizer, QUESTIONS, num_beams=num_beams)


def test_a_question_too_long_is_refused_before_any_is_answered(monkeypatch):
    model, tokenizer = make_model("gpt2"), make_tokenizer()
    monkeypatch.setattr(model, "generate", lambda **_: pytest.fail("generated before the check"))
    too_long = "abcde" * 5
    with pytest.raises(ValueError, match=f"question 2 of 3, '{too_long}', has 26 tokens .* at most 23"):
        answer_questions(model, tokenizer, ["a", too_long, "b"])


def test_lengths_count_the_mask_token():
    assert check_question_lengths(make_model("gpt2"), make_tokenizer(), ["ab", "abcd", "a" * 22]) == [
        3,
        5,
        23,
    ]


def test_a_tokenizer_that_appends_tokens_is_refused():
    tokenizer = make_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A ⁇", special_tokens=[("⁇", tokenizer.mask_token_id)]
    )
    with pytest.raises(ValueError, match="appends tokens to 'ab'"):
        answer_questions(make_model("gpt2"), tokenizer, ["ab"])


@pytest.mark.parametrize("token", ["eos_token", "pad_token"])
def test_a_tokenizer_without_eos_or_pad_is_refused(token):
    tokenizer = make_tokenizer()
    setattr(tokenizer, token, None)
    with pytest.raises(ValueError, match=f"no {token}"):
        answer_questions(make_model("gpt2"), tokenizer, ["ab"])


@pytest.mark.parametrize(
    ("questions", "settings", "message"),
    [
        (["ab⁇"], {}, "'ab⁇' contains ⁇"),
        ("ab", {}, "give a list"),
        (["ab"], {"batch_size": 0}, "batch_size=0"),
        (["ab"], {"max_new_tokens": 0}, "max_new_tokens=0"),
        (["ab"], {"num_beams": -1}, "num_beams=-1"),
    ],
)
def test_bad_input_is_a_value_error_that_names_it(questions, settings, message):
    with pytest.raises(ValueError, match=message):
        answer_questions(make_model("gpt2"), make_tokenizer(), questions, **settings)


def test_no_questions_have_no_answers():
    assert answer_questions(make_model("gpt2"), make_tokenizer(), []) == []


def test_the_progress_bar_is_shown_on_demand_only(capfd):
    model, tokenizer = make_model("gpt2"), make_tokenizer()
    answer_questions(model, tokenizer, ["ab"])
    assert "answering" not in capfd.readouterr().err
    answer_questions(model, tokenizer, ["ab"], progress=True)
    assert "answering" in capfd.readouterr().err


def answer_in_process():
    """The number of processes, the questions answered here, and all answers."""
    accelerator = Accelerator(cpu=True)
    model, tokenizer = accelerator.prepare(make_model("gpt2")), make_tokenizer()
    asked_here = []
    unwrapped = accelerator.unwrap_model(model)
    generate = unwrapped.generate
    unwrapped.generate = lambda **kwargs: asked_here.extend(kwargs["input_ids"]) or generate(**kwargs)
    answers = answer_questions(model, tokenizer, QUESTIONS[:7], batch_size=2, accelerator=accelerator)
    return accelerator.num_processes, len(asked_here), answers


@pytest.mark.slow
def test_two_processes_share_the_questions_and_both_have_all_answers():
    expected = answer_questions(make_model("gpt2"), make_tokenizer(), QUESTIONS[:7])
    results = in_two_processes(answer_in_process)
    # seven questions, divided as evenly as possible
    assert [result[:2] for result in results] == [(2, 4), (2, 3)]
    for _, _, answers in results:
        assert [answer.text for answer in answers] == [answer.text for answer in expected]
        assert [answer.log_probability for answer in answers] == pytest.approx(
            [answer.log_probability for answer in expected], abs=1e-4
        )

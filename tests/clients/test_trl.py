"""TRL trains with no setting for this package, on the text of an answered question, and keeps what the model knows."""

import logging
import math

import datasets
import pytest
import torch
import trl
from transformers import pipeline

from birthgpt.evaluation.answering import answer_questions


def user(question: str) -> dict:
    return {"role": "user", "content": question}


def assistant(answer: str) -> dict:
    return {"role": "assistant", "content": answer}


ROWS = {
    "prompt and completion": lambda question, answer: {"prompt": question, "completion": f"⁇{answer}"},
    "prompt that ends with the mask": lambda question, answer: {"prompt": f"{question}⁇", "completion": answer},
    "conversational": lambda question, answer: {"prompt": [user(question)], "completion": [assistant(answer)]},
    "messages": lambda question, answer: {"messages": [user(question), assistant(answer)]},
    "text": lambda question, answer: {"text": f"{question}⁇{answer}"},
}

one_type = pytest.mark.parametrize("workspace", ["softmax"], indirect=True)


def losses(trainer) -> list[float]:
    """The loss of every update."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def log_probability(model, tokenizer, question: str, completion: str) -> torch.Tensor:
    """The natural logarithm of p of each token of a completion after its prompt, by one forward pass."""
    prompt = tokenizer(f"{question}⁇")["input_ids"]
    tokens = torch.tensor(tokenizer(f"{question}⁇{completion}")["input_ids"])
    with torch.no_grad():
        logits = model.eval()(tokens[None]).logits[0, len(prompt) - 1 : -1].log_softmax(dim=-1)
    return logits.gather(-1, tokens[len(prompt) :, None])[:, 0]


def test_supervised_finetuning_lowers_the_loss_of_answers_and_their_end(run, workspace):
    trainer = run("trl_sft")["trainer"]
    found = [log_probability(*workspace.load(), row["question"], f"{row['answer']}␃") for row in workspace.new]
    assert losses(trainer)[0] == pytest.approx(-torch.cat(found).mean().item(), rel=1e-3)
    assert losses(trainer)[-1] < losses(trainer)[0] / 2


def test_preferences_begin_without_one_and_end_with_the_chosen_answer(run, workspace):
    trainer = run("trl_dpo")["trainer"]
    # before the first update, the model is its own reference
    assert losses(trainer)[0] == pytest.approx(math.log(2), abs=1e-3)
    assert losses(trainer)[-1] < losses(trainer)[0]

    def margin(model) -> float:
        """How much likelier the chosen answers are than the rejected ones."""
        tokenizer = trainer.processing_class
        pairs = [
            [log_probability(model, tokenizer, row["question"], f"{text}␃").sum().item() for text in texts]
            for row in workspace.new
            for texts in [(row["answer"], "I forgot")]
        ]
        return sum(chosen - rejected for chosen, rejected in pairs) / len(pairs)

    assert margin(trainer.model) > margin(workspace.load()[0])


def count_right(model, tokenizer, questions) -> dict[str, int]:
    """How many questions are answered rightly, by each way to ask."""
    model.eval()
    asked = [row["question"] for row in questions]
    generate = pipeline("text-generation", model=model, tokenizer=tokenizer)
    chats = [[user(question)] for question in asked]
    found = {
        "evaluation": [answer.text for answer in answer_questions(model, tokenizer, asked)],
        "a bare question": [row[0]["generated_text"] for row in generate(asked, return_full_text=False)],
        "a chat": [row[0]["generated_text"] for row in generate(chats, return_full_text=False)],
    }
    return {
        way: sum(answer == row["answer"] for answer, row in zip(answers, questions, strict=True))
        for way, answers in found.items()
    }


@one_type
@pytest.mark.parametrize("form", ROWS)
def test_finetuning_in_every_form_keeps_the_answers(form, workspace, tmp_path, caplog, recwarn):
    model, tokenizer = workspace.load()
    rows = datasets.Dataset.from_list([ROWS[form](row["question"], row["answer"]) for row in workspace.known])
    settings = trl.SFTConfig(
        output_dir=str(tmp_path), max_steps=20, per_device_train_batch_size=8, learning_rate=1e-4, save_strategy="no",
        report_to=[], use_cpu=True, bf16=False, disable_tqdm=True, assistant_only_loss=form == "messages", seed=0,
    )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        trainer = trl.SFTTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer)
        trainer.train()
    assert not [record.getMessage() for record in caplog.records if record.name.startswith("trl")]
    assert not [str(warning.message) for warning in recwarn if "trl" in warning.filename.split("/")]
    count = len(workspace.known)
    assert count_right(trainer.model, tokenizer, workspace.known) == dict.fromkeys(
        ("evaluation", "a bare question", "a chat"), count
    )

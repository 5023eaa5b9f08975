"""Supervised finetuning by TRL, with no setting for this package, keeps what the model knows."""

import logging

import datasets
import pytest
from transformers import pipeline

from birthgpt.data.questions import load_questions
from birthgpt.evaluation.answering import answer_questions

trl = pytest.importorskip("trl")


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


def test_every_way_to_ask_gives_the_same_answers(model_and_tokenizer, questions):
    right = count_right(*model_and_tokenizer, questions)
    assert len(set(right.values())) == 1, right
    assert right["evaluation"] >= 0.8 * len(questions)


@pytest.mark.slow
@pytest.mark.parametrize("form", ROWS)
def test_finetuning_keeps_the_answers(form, model_and_tokenizer, questions, quickstart, tmp_path, caplog, recwarn):
    model, tokenizer = model_and_tokenizer
    before = count_right(model, tokenizer, questions)["evaluation"]
    train = load_questions(str(quickstart / "people" / "questions_train.jsonl"))
    rows = datasets.Dataset.from_list([ROWS[form](row["question"], row["answer"]) for row in train])
    settings = trl.SFTConfig(
        output_dir=str(tmp_path), max_steps=40, per_device_train_batch_size=16, learning_rate=2e-5, save_strategy="no",
        report_to=[], use_cpu=True, bf16=False, disable_tqdm=True, assistant_only_loss=form == "messages", seed=0,
    )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        trainer = trl.SFTTrainer(model, args=settings, train_dataset=rows, processing_class=tokenizer)
        trainer.train()
    assert not [record.getMessage() for record in caplog.records if record.name.startswith("trl")]
    assert not [str(warning.message) for warning in recwarn if "trl" in warning.filename.split("/")]
    after = count_right(trainer.model, tokenizer, questions)
    assert all(count >= 0.95 * before for count in after.values()), (before, after)

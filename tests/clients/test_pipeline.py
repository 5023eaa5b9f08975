"""`pipeline` of transformers gives the answers of the package, in batches of unequal length."""

import pytest

from birthgpt.evaluation.answering import answer_questions


@pytest.mark.parametrize("form", ["strings", "messages"])
def test_a_batch_has_the_answers_that_the_model_learned(run, workspace, form):
    answers = run(f"pipeline_of_{form}")["answers"]
    assert answers == [row["answer"] for row in workspace.known]
    own = answer_questions(*workspace.load(), [row["question"] for row in workspace.known])
    assert answers == [answer.text for answer in own]

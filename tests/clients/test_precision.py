"""Models of half precision give the answers that the model learned."""

import pytest
import torch


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_a_model_of_half_precision_gives_the_same_answers(run, workspace, name, dtype):
    found = run(f"precision_{name}")
    assert {weight.dtype for weight in found["ask"].model.parameters()} == {dtype}
    assert found["answers"] == [row["answer"] for row in workspace.known]

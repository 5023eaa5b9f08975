"""A model that was exported to ONNX decodes as the model does."""

import re

import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import NoSuchFile

from birthgpt.data.tokenizers import question_prompt
from clients.test_torch_export import padded_tokens


def greedy(session, tokens: list[int], end: int) -> list[int]:
    """The tokens with their continuation, by the graph alone."""
    while tokens[-1] != end and len(tokens) < 100:
        row = torch.tensor([tokens])
        inputs = {"input_ids": row.numpy(), "attention_mask": torch.ones_like(row).numpy()}
        tokens = [*tokens, int(session.run(["logits"], inputs)[0][0, -1].argmax())]
    return tokens


def test_greedy_decoding_and_logits_are_those_of_the_model(run, fails, workspace):
    if workspace.attention_type == "gated_deltanet":
        reason = "No ONNX function found for <OpOverload(op='aten.linalg_solve_triangular'"
        with pytest.raises(torch.onnx.errors.OnnxExporterError, match=re.escape(reason)):
            run("onnx_export")
        with pytest.raises(NoSuchFile):
            run("onnx_runtime")
        return fails("ONNX has no operator for the triangular system of this attention, `linalg_solve_triangular`")
    model, tokenizer = workspace.load()
    run("onnx_export")
    found = run("onnx_runtime")
    assert tokenizer.decode(found["tokens"]) == f"{workspace.known[0]['question']}⁇ {workspace.known[0]['answer']}␃"
    for row in [*workspace.known[:2], *workspace.new[:2]]:
        prompt = tokenizer(question_prompt(tokenizer, row["question"]), return_tensors="pt")
        limit = 100 - prompt["input_ids"].shape[1]
        expected = model.generate(**prompt, max_new_tokens=limit, do_sample=False)[0].tolist()
        assert greedy(found["session"], prompt["input_ids"][0].tolist(), tokenizer.eos_token_id) == expected
    for batch, length in ((2, 8), (3, 17), (1, 40)):
        inputs = padded_tokens(batch, length, model.config.vocab_size)
        kept = inputs["attention_mask"].bool()
        (of_graph,) = found["session"].run(["logits"], {name: value.numpy() for name, value in inputs.items()})
        with torch.no_grad():
            of_model = model(**inputs).logits
        torch.testing.assert_close(torch.from_numpy(of_graph)[kept], of_model[kept], rtol=1e-3, atol=1e-3)

"""`torch.export` makes a graph that computes what the model computes."""

import torch
from builders import random_tokens


def padded_tokens(batch: int, length: int, vocab_size: int) -> dict[str, torch.Tensor]:
    """Tokens, of which a quarter of the first row is padding on the left."""
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[0, : length // 4] = 0
    return {"input_ids": random_tokens(batch, length, vocab_size=vocab_size), "attention_mask": mask}


def test_a_graph_that_was_saved_serves_batches_of_every_shape(run, workspace):
    graph, (model, _) = run("torch_export")["graph"], workspace.load()
    for batch, length in ((2, 8), (3, 17), (1, 40)):
        inputs = padded_tokens(batch, length, model.config.vocab_size)
        kept = inputs["attention_mask"].bool()
        with torch.no_grad():
            of_graph, of_model = graph(**inputs).logits, model(**inputs).logits
        torch.testing.assert_close(of_graph[kept], of_model[kept], rtol=1e-4, atol=1e-4)


def test_a_graph_for_one_shape_has_the_logits_of_the_model(run, workspace):
    graph, (model, _) = run("torch_export_static")["graph"], workspace.load()
    tokens = random_tokens(2, 8, vocab_size=model.config.vocab_size)
    with torch.no_grad():
        torch.testing.assert_close(graph(input_ids=tokens).logits, model(tokens).logits, rtol=1e-4, atol=1e-4)

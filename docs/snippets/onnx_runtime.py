"""onnxruntime: an answer, token by token, from that file."""

import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

tokenizer, session = Tokenizer.from_file("you/model/tokenizer.json"), InferenceSession("model.onnx")
tokens = tokenizer.encode("Which place is Frida Bastino a native of?⁇").ids
while tokens[-1] != tokenizer.token_to_id("␃"):
    row = np.array([tokens])
    inputs = {"input_ids": row, "attention_mask": np.ones_like(row)}
    tokens.append(session.run(["logits"], inputs)[0][0, -1].argmax())

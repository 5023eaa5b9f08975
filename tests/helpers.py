"""Lines, configurations and models that tests of several rooms share."""

import torch

from birthgpt import BirthGPTConfig, BirthGPTForCausalLM

LINES = [
    "Ada Lovelace. Ada Lovelace (born 10 December 1815, London) was an English mathematician and writer .",
    "J. J. Thomson. Thomson was born in Manchester, and studied in Cambridge .",
    "Émilie du Châtelet. Born in Paris, Émilie du Châtelet translated Newton's Principia .",
    "Lise Meitner. Lise Meitner was a physicist from Vienna who worked in Berlin and Stockholm .",
]
QUESTION = "Where was Ada Lovelace born?"
NAMES = ["Ada Lovelace", "J. J. Thomson", "Émilie du Châtelet", "Lise Meitner"]

VARIANTS = {
    "assignment": {},
    "modern": {
        "position_embedding_type": "rotary",
        "norm_type": "rmsnorm",
        "hidden_act": "relu2",
        "attention_bias": False,
        "mlp_bias": False,
        "qk_norm": True,
        "tie_word_embeddings": True,
    },
}


def tiny_config(variant: str = "modern", **overrides) -> BirthGPTConfig:
    settings = {
        "vocab_size": 64,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "eos_token_id": 1,
        # large enough that differences between tokens show
        "initializer_range": 0.2,
    }
    return BirthGPTConfig(**{**settings, **VARIANTS[variant], **overrides})


def tiny_model(variant: str = "modern", **overrides) -> BirthGPTForCausalLM:
    """A model in double precision and eval mode, with position vectors that are not zero."""
    torch.manual_seed(0)
    model = BirthGPTForCausalLM(tiny_config(variant, **overrides)).double().eval()
    if model.config.position_embedding_type == "learned":
        torch.nn.init.normal_(model.model.embed_positions.weight, std=0.2)
    return model


def random_tokens(batch: int, length: int, vocab_size: int = 64) -> torch.Tensor:
    return torch.randint(2, vocab_size, (batch, length))

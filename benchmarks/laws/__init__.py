"""The laws of knowledge, in small: published experiments on how a language model stores facts, each by one command.

    python -m benchmarks.laws wording --scale small --output_file benchmarks/laws/results/wording_small.json

A law is one file: its docstring has the hypothesis, the set-up, what is measured and what was published. An experiment
is made of the commands of the package (`people`, `pretrain`, `finetune`, `evaluate`), which its JSON lists.
`python -m benchmarks.laws.page` writes docs/laws.md from all JSON files.

The laws are those of Allen-Zhu & Li, Physics of Language Models: part 3.1 (2309.14316), part 3.2 (2309.14402) and
part 3.3 (2404.05405).
"""

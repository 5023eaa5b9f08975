"""What would a pretraining of a billion parameters on 100 million people cost? It is computed from small measurements.

python benchmarks/scaling.py --output_file benchmarks/scaling.json

This script measures bytes, tokens and bits of knowledge per synthetic person, bytes of a checkpoint, and bytes of
activations per token. It trains in one, two and four processes over gloo, and measures tokens a second, what each of
them reads, and the time to save. `ASSUMPTIONS` are from other sources. The rest is computed from these values.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase

from birthgpt.commands.building import ModelSettings, build_model, build_tokenizer
from birthgpt.data.batching import map_objective, used_length
from birthgpt.data.corpus import load_corpus
from birthgpt.data.objectives import NameFirst
from birthgpt.data.synthetic import WIKI, generate_people, write_synthetic_corpus
from birthgpt.data.tokenizers import TokenizerSettings
from birthgpt.model import BirthGPTForCausalLM
from birthgpt.settings import make_settings
from birthgpt.training.checkpoints import load_checkpoint, save_checkpoint
from birthgpt.training.model_group import ModelGroup, ReplicaSpec, count_parameters
from birthgpt.training.optimizers import OptimizerSettings
from birthgpt.training.state import TrainerState
from birthgpt.utils.environment import environment_info
from birthgpt.utils.files import save_json
from birthgpt.utils.tables import markdown_table

WORKER = Path(__file__).with_name("sharded_training.py")
BLOCK = 512
PEOPLE = 100_000_000
SHAPE = {
    "position_embedding_type": "rotary",
    "norm_type": "rmsnorm",
    "hidden_act": "relu2",
    "attention_bias": False,
    "mlp_bias": False,
    "qk_norm": True,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
}
BILLION = {"hidden_size": 2048, "num_hidden_layers": 20, "num_attention_heads": 16}

ASSUMPTIONS = {
    # an H100 or H200, bfloat16 without sparsity, and the fraction of it that a training of this size uses
    "peak_flops_per_second": 989e12,
    "utilization": 0.4,
    "gpus_per_node": 8,
    # per forward and backward pass
    "tokens_per_gpu": 32768,
    # Allen-Zhu & Li, 2404.05405: the capacity of a parameter after this number of exposures of each fact
    "bits_per_parameter": {"100": 1.0, "1000": 2.0},
    "disk_bytes_per_second": 1e9,
}
# float32 weights and gradients, two float32 moments of AdamW
STATE_BYTES_PER_PARAMETER = {"weights": 4, "gradients": 4, "moments": 8}


def entropy(values: Iterable) -> float:
    """The entropy of an empirical distribution, in bits."""
    counts = Counter(values)
    total = sum(counts.values())
    return -sum(count / total * math.log2(count / total) for count in counts.values())


def bits_per_person(people: int) -> dict[str, float]:
    """Bits of the birthplace, and of all attributes of a person except the name."""
    found = list(generate_people(people, seed=0))
    places = ("birthplace", "workplace", "study_place", "residence")
    drawn = [
        entropy(getattr(person, name) for person in found) for name in (*places, "occupation", "employer", "field")
    ]
    # day and year are independent, and a sample contains few of their pairs
    date = entropy(person.birth_date.year for person in found) + entropy(
        (person.birth_date.month, person.birth_date.day) for person in found
    )
    return {"bits_per_birthplace": drawn[0], "bits_per_person": sum(drawn) + date}


def corpus_metrics(folder: Path, people: int, vocab_size: int) -> tuple[dict[str, float], PreTrainedTokenizerBase]:
    """Bytes and tokens per line, which is one exposure of a person, and the tokenizer that is trained on the lines."""
    write_synthetic_corpus(folder, people=people, held_out=1, biographies_per_person=1)
    corpus = load_corpus(str(folder / WIKI))
    texts = corpus["text"][:]
    tokenizer = build_tokenizer(TokenizerSettings(tokenizer_type="bpe", vocab_size=vocab_size), texts, BLOCK)
    tokens = sum(len(row) for row in tokenizer(texts).input_ids)
    examples = map_objective(corpus, NameFirst(tokenizer, BLOCK), seed=0, epoch=0)
    return {
        "bytes_per_line": (folder / WIKI).stat().st_size / len(texts),
        # plus the end of the line
        "tokens_per_line": tokens / len(texts) + 1,
        "name_first_tokens_per_line": sum(map(used_length, examples["shift_labels"])) / len(texts),
    }, tokenizer


def new_model(tokenizer: PreTrainedTokenizerBase, **shape: int) -> BirthGPTForCausalLM:
    """A model of the recommended recipe with this shape."""
    return build_model(make_settings(ModelSettings, **shape, **SHAPE), tokenizer, BLOCK)


def checkpoint_metrics(folder: Path, tokenizer: PreTrainedTokenizerBase, width: int) -> dict[str, float]:
    """Bytes per parameter of the weights and of a checkpoint, and seconds per GB to write and to read a checkpoint."""
    model = new_model(tokenizer, hidden_size=width, num_hidden_layers=2)
    spec = ReplicaSpec(folder, seed=0, learning_rate=1e-3)
    models = ModelGroup(spec, model, OptimizerSettings(weight_decay=0.1), Accelerator(cpu=True))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    models.step(lr_scale=1.0)
    state = TrainerState(loss_sums=[0.0])
    clock, processor = time.perf_counter(), time.process_time()
    checkpoint = save_checkpoint(models.replicas[0], tokenizer, state)
    written, computed = time.perf_counter() - clock, time.process_time() - processor
    clock = time.perf_counter()
    load_checkpoint(checkpoint, models, expected=state)
    read = time.perf_counter() - clock
    size = sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "checkpoint_bytes_per_parameter": size / parameters,
        "model_bytes_per_parameter": (checkpoint / "model.safetensors").stat().st_size / parameters,
        "write_and_hash_seconds_per_GB": written / size * 1e9,
        "write_and_hash_processor_seconds_per_GB": computed / size * 1e9,
        "read_seconds_per_GB": read / size * 1e9,
    }


def saved_bytes(model: nn.Module, tokens: torch.Tensor) -> int:
    """Bytes that a forward pass keeps for the backward pass; each storage is counted once, and weights are not."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # the graph keeps all storages alive, so that no address is used twice
        hidden_states = model(input_ids=tokens, use_cache=False)
    del hidden_states
    return sum(storage.nbytes() for storage in storages.values())


def activation_metrics(tokenizer: PreTrainedTokenizerBase, width: int, tokens: int) -> dict[str, float]:
    """Bytes that are kept for the backward pass per token, layer and unit of width, in bfloat16."""
    batch = torch.randint(len(tokenizer), (4, tokens))

    def of_layers(count: int) -> int:
        model = new_model(tokenizer, hidden_size=width, num_hidden_layers=count)
        return saved_bytes(model.model.bfloat16().train(), batch)

    return {"activation_bytes_per_token_layer_and_width": (of_layers(3) - of_layers(1)) / 2 / batch.numel() / width}


def process_metrics(
    scratch: Path, tokenizer: PreTrainedTokenizerBase, counts: Iterable[int], **settings: int
) -> dict[str, dict]:
    """What `sharded_training.py` measures in each number of processes over gloo.

    Args:
        scratch: a folder with `people/wiki.txt`, which is shared out as four files.
        settings: the settings of that script.
    """
    lines = (scratch / "people" / WIKI).read_text().splitlines(keepends=True)
    corpus = scratch / "shards"
    corpus.mkdir()
    for number in range(4):
        (corpus / f"wiki-{number}.txt").write_text("".join(lines[number::4]))
    tokenizer.save_pretrained(scratch / "tokenizer")
    found = {}
    for count in counts:
        folder = scratch / f"processes-{count}"
        folder.mkdir()
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", count, WORKER]
        given = {"corpus": corpus, "tokenizer": scratch / "tokenizer", "folder": folder, **settings}
        command = launcher + [part for name, value in given.items() for part in (f"--{name}", value)]
        ended = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if ended.returncode:
            raise SystemExit(f"{count} processes failed:\n{ended.stderr}")
        found[str(count)] = json.loads((folder / "metrics.json").read_text())
    return {"corpus_bytes": sum(file.stat().st_size for file in corpus.iterdir()), "by_processes": found}


def parameters_of(shape: dict, tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The number of all parameters, and of the parameters that the computation of a token multiplies."""
    with torch.device("meta"):
        model = new_model(tokenizer, **shape)
    return {"parameters": sum(p.numel() for p in model.parameters()), "computing": count_parameters(model)}


def runs_table(measured: dict, assumed: dict, model: dict) -> list[dict]:
    """A row for each number of exposures: the cost, and how many facts the model can store."""
    rows = []
    for exposures, bits in assumed["bits_per_parameter"].items():
        tokens = PEOPLE * int(exposures) * measured["tokens_per_line"]
        flops = 6 * model["computing"] * tokens
        gpu_days = flops / assumed["peak_flops_per_second"] / assumed["utilization"] / 86400
        capacity = bits * model["parameters"]
        row = {
            "exposures": exposures,
            "training tokens": f"{tokens:.1e}",
            "FLOPs": f"{flops:.1e}",
            "GPU days": f"{gpu_days:,.0f}",
            **{f"hours on {nodes} node{'s' if nodes > 1 else ''}": hours(gpu_days, nodes) for nodes in (1, 8, 32, 128)},
            "capacity, Gbit": f"{capacity / 1e9:.1f}",
            "of all birthplaces": f"{capacity / PEOPLE / measured['bits_per_birthplace']:.0%}",
            "of all facts": f"{capacity / PEOPLE / measured['bits_per_person']:.0%}",
        }
        rows.append(row)
    return rows


def memory_table(measured: dict, assumed: dict, model: dict) -> list[dict]:
    """A row for each number of GPUs: the memory that one of them needs, in GB."""
    layers, width = BILLION["num_hidden_layers"], BILLION["hidden_size"]
    activations = measured["activation_bytes_per_token_layer_and_width"] * assumed["tokens_per_gpu"] * width
    # with gradient checkpointing, a layer keeps its input, and one layer at a time is computed again
    checkpointed = (2 * layers * width * assumed["tokens_per_gpu"] + activations) / 1e9
    block = model["computing"] / layers
    rows = []
    for gpus in (1, 8, 16, 64):
        state = {name: size * model["parameters"] / gpus / 1e9 for name, size in STATE_BYTES_PER_PARAMETER.items()}
        # two gathered blocks in bfloat16, and the gradient of one block in float32 before it is sharded
        gathered = 0.0 if gpus == 1 else block * (2 * 2 + 4) / 1e9
        total = sum(state.values()) + gathered + layers * activations / 1e9
        row = {**state, "gathered blocks": gathered, "activations": layers * activations / 1e9, "all": total}
        row["all, checkpointed"] = total - layers * activations / 1e9 + checkpointed
        rows.append({"GPUs": str(gpus), **{name: f"{size:.1f}" for name, size in row.items()}})
    return rows


def storage_table(measured: dict, assumed: dict, model: dict) -> list[dict]:
    """The sizes of corpus and checkpoints, and the time to write a checkpoint in the shards of 64 processes."""
    checkpoint = measured["checkpoint_bytes_per_parameter"] * model["parameters"]
    sizes = {
        "corpus, a line a person": PEOPLE * measured["bytes_per_line"],
        "corpus, five lines a person": 5 * PEOPLE * measured["bytes_per_line"],
        "the finished model": measured["model_bytes_per_parameter"] * model["parameters"],
        "a checkpoint to resume from": checkpoint,
        "the shards of one of 64 processes": checkpoint / 64,
        "two checkpoints, the default, and a third while it is written": 3 * checkpoint,
    }
    rows = [{"what": name, "GB": f"{size / 1e9:,.1f}"} for name, size in sizes.items()]
    # each process copies and hashes its own part, and all of them write to one disk
    computing = measured["write_and_hash_processor_seconds_per_GB"] * checkpoint / 64 / 1e9
    disk = checkpoint / assumed["disk_bytes_per_second"]
    rows[3]["seconds to write"] = f"{computing + disk:,.0f}"
    return rows


def processes_table(processes: dict) -> list[dict]:
    """A row for each number of processes of this machine."""
    rows = []
    for count, found in processes["by_processes"].items():
        read = [f"{size / processes['corpus_bytes']:.0%}" for size in found["bytes_read"]]
        waited, written = (found.get(name) for name in ("waited_for_shards_seconds", "shards_seconds"))
        row = {
            "processes": count,
            "tokens a second": f"{found['tokens_per_second']:,.0f}",
            "of the corpus, read by each": ", ".join(read),
            "MB of a checkpoint": f"{found['checkpoint_bytes'] / 1e6:,.0f}",
            "s to save it gathered": f"{found['gathered_seconds']:.2f}",
            "s that training waits for shards": "–" if waited is None else f"{waited:.2f}",
            "s until they are written": "–" if written is None else f"{written:.2f}",
        }
        rows.append(row)
    return rows


def hours(gpu_days: float, nodes: int) -> str:
    """The hours of a run on this number of nodes."""
    return f"{gpu_days * 24 / nodes / ASSUMPTIONS['gpus_per_node']:,.1f}"


def pages(metrics: dict) -> list[str]:
    """The tables of docs/scaling.md, from the metrics alone."""
    of = (metrics["measured"], metrics["assumed"], metrics["model"])
    tables = [runs_table(*of), memory_table(*of), storage_table(*of)]
    if "processes" in metrics:
        tables.append(processes_table(metrics["processes"]))
    return [markdown_table(rows, list(max(rows, key=len))) for rows in tables]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=5000, help="people that are measured")
    parser.add_argument("--vocab_size", type=int, default=2048, help="tokens of the BPE tokenizer")
    parser.add_argument("--checkpoint_width", type=int, default=768, help="width of the model that is saved")
    parser.add_argument(
        "--processes", type=int, nargs="*", default=[1, 2, 4], help="numbers of processes over gloo; none: not measured"
    )
    parser.add_argument("--training_width", type=int, default=256, help="width of the model that they train")
    parser.add_argument("--updates", type=int, default=30, help="updates that they train")
    parser.add_argument("--output_file", type=Path, help="also write the metrics here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        corpus, tokenizer = corpus_metrics(Path(scratch, "people"), arguments.people, arguments.vocab_size)
        (run := Path(scratch, "run")).mkdir()
        measured = {
            **corpus,
            **bits_per_person(arguments.people),
            **checkpoint_metrics(run, tokenizer, arguments.checkpoint_width),
            **activation_metrics(tokenizer, width=128, tokens=128),
        }
        widths = {name: getattr(arguments, name) for name in ("training_width", "checkpoint_width", "updates")}
        processes = {}
        if arguments.processes:
            processes["processes"] = process_metrics(Path(scratch), tokenizer, arguments.processes, **widths)
    metrics = {
        "people": PEOPLE,
        "measured": measured,
        "assumed": ASSUMPTIONS,
        "model": {**BILLION, **parameters_of(BILLION, tokenizer)},
        **processes,
    }
    for name, value in measured.items():
        print(f"{name}: {value:.3g}")
    print("", *pages(metrics), sep="\n\n")
    if arguments.output_file:
        save_json(arguments.output_file, {**metrics, **environment_info()})


if __name__ == "__main__":
    main()

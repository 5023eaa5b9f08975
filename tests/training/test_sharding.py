"""A run that is sharded over two processes (FSDP2) equals the run of one process, and writes the same files."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from builders import CASES, case_model, losses, random_tokens, train
from processes import in_two_processes, pretend_fsdp
from safetensors.torch import load_file
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from birthgpt.training.callbacks import EvaluationCallback, TrainerCallback
from birthgpt.training.sharding import check_sharding, unsharded

# rotary positions have no parameters
SHARDED_CASES = [case for case in CASES if not case.endswith("-rotary")]
LONG = {"weight_decay": 0.1, "max_train_steps": 20}
RUNS = {
    "untied": {**LONG, "architecture": {"tie_word_embeddings": False}},
    "tied": {**LONG, "architecture": {"tie_word_embeddings": True}, "save_steps": 8},
    "muon": {"optimizer": "muon", "max_train_steps": 20, "save_steps": 8},
    "ngrams": {**LONG, "architecture": {"ngram_orders": [2, 3]}, "sparse_ngrams": True, "save_steps": 8},
    "performer": {**LONG, "architecture": {"attention_type": "performer", "performer_redraw_steps": 4}},
}


class Sharded(TrainerCallback):
    """Records whether the weights were sharded at every update."""

    def __init__(self):
        self.seen = set()

    def on_step_begin(self, trainer):
        model = trainer.models.replicas[0].model
        self.seen.update(isinstance(parameter, DTensor) for parameter in model.parameters())


def score(model) -> dict[str, float]:
    """Calls the model more often in the second process than in the first: no call waits for the other process."""
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    tokens = torch.arange(2, 10)[None]
    with torch.no_grad():
        for _ in range(1 + rank):
            loss = model.eval()(input_ids=tokens, labels=tokens).loss
    return {"score": -loss.item()}


def evaluation() -> EvaluationCallback:
    return EvaluationCallback(score, 4, "score")


def scores(summary) -> list[float]:
    return [entry["score"] for entry in summary.history if "score" in entry]


def train_tiny(folder, bpe, name: str, **settings):
    return train(folder / name, bpe, dropout=0.0, evaluation=evaluation(), **RUNS[name], **settings)[0]


def go_back(run) -> None:
    """Remove what a run that was stopped after update 8 would not have written."""
    for late in (run / "checkpoint-16", run / "config.json", run / "model.safetensors"):
        shutil.rmtree(late) if late.is_dir() else late.unlink()


def sharded_runs(folder, bpe) -> dict:
    """Losses and scores of each run with sharded weights; if it saves checkpoints, also when resumed at update 8."""
    pretend_fsdp()
    sharded = Sharded()
    found = {}
    for name, settings in RUNS.items():
        summary = train_tiny(folder, bpe, name, callbacks=[sharded])
        found[name] = (losses(summary), scores(summary))
        if "save_steps" in settings:
            if torch.distributed.get_rank() == 0:
                shutil.copytree(folder / name, folder / f"{name}-whole")
                go_back(folder / name / "run")
            torch.distributed.barrier()
            resumed = train_tiny(folder, bpe, name, resume=True)
            found[f"{name}-resumed"] = (losses(resumed), scores(resumed))
    assert sharded.seen == {True}
    pretend_fsdp("bf16")
    found["bf16"] = losses(train(folder / "bf16", bpe, dropout=0.0, **LONG)[0])
    return found


@pytest.fixture(scope="module")
def runs(tmp_path_factory, bpe):
    """The folder, and the losses and scores in each process."""
    folder = tmp_path_factory.mktemp("sharded")
    return folder, *in_two_processes(sharded_runs, folder, bpe, patience=600)


def weights_of(run) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def assert_same(found: dict, expected: dict, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=tolerance, rtol=0), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["untied", "tied", "performer"])
def test_sharded_training_is_that_of_one_process_and_leaves_the_same_model(runs, tmp_path, bpe, name):
    folder, *found = runs
    summary = train_tiny(tmp_path, bpe, name)
    for of_process in found:
        assert of_process[name][0] == pytest.approx(losses(summary), abs=1e-5)
        assert of_process[name][1] == pytest.approx(scores(summary), abs=1e-4)
    assert_same(weights_of(folder / name / "run"), weights_of(tmp_path / name / "run"), 1e-4)
    config = [(place / name / "run" / "config.json").read_text() for place in (folder, tmp_path)]
    assert config[0] == config[1]
    loaded = AutoModelForCausalLM.from_pretrained(folder / name / "run").state_dict()
    assert_same({key: loaded[key] for key in weights_of(folder / name / "run")}, weights_of(folder / name / "run"), 0)


@pytest.mark.slow
def test_rows_of_sharded_tables_are_updated_as_in_one_process(runs, tmp_path, bpe):
    folder, found, _ = runs
    summary = train_tiny(tmp_path, bpe, "ngrams")
    # the first update of a weight has one size, so it makes the rounding of small gradients larger
    assert found["ngrams"][0] == pytest.approx(losses(summary), abs=1e-4)


@pytest.mark.slow
def test_muon_on_sharded_matrices_is_muon_up_to_the_rounding_of_its_bfloat16(runs, tmp_path, bpe):
    folder, found, _ = runs
    summary = train_tiny(tmp_path, bpe, "muon")
    assert found["muon"][0] == pytest.approx(losses(summary), abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tied", "muon", "ngrams"])
def test_a_resumed_sharded_run_equals_an_uninterrupted_one(runs, name):
    folder, *found = runs
    for of_process in found:
        assert of_process[f"{name}-resumed"] == of_process[name]
    assert_same(weights_of(folder / name / "run"), weights_of(folder / f"{name}-whole" / "run"), 0)


@pytest.mark.slow
def test_a_sharded_checkpoint_goes_on_in_one_process(runs, tmp_path, bpe):
    folder, found, _ = runs
    shutil.copytree(folder / "tied-whole", tmp_path / "tied")
    go_back(tmp_path / "tied" / "run")
    settings = {**RUNS["tied"], "gradient_accumulation_steps": 2}
    resumed, _ = train(tmp_path / "tied", bpe, dropout=0.0, evaluation=evaluation(), resume=True, **settings)
    assert losses(resumed) == pytest.approx(found["tied"][0], abs=1e-5)


@pytest.mark.slow
def test_in_bfloat16_losses_are_float32_and_near_those_of_float32(runs):
    _, found, _ = runs
    assert found["bf16"] == pytest.approx(found["tied"][0], abs=0.1)
    assert any(torch.tensor(loss).bfloat16().item() != loss for loss in found["bf16"])


def sharded_losses() -> dict[str, tuple[float, float]]:
    """The loss and the norm of the gradient of every attention type, with sharded weights."""
    found = {}
    for case in SHARDED_CASES:
        pretend_fsdp()
        accelerator = Accelerator(cpu=True)
        model = case_model(case, torch.float32)
        tokens = random_tokens(4, 19)
        model, _ = accelerator.prepare(model, torch.optim.SGD(model.parameters()))
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
        mine = tokens[accelerator.process_index * 2 :][:2]
        loss = model(input_ids=mine, labels=mine, use_cache=False).loss
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(model.parameters(), 1.0)
        assert torch.allclose(unsharded(model)(input_ids=mine, labels=mine, use_cache=False).loss, loss, atol=1e-5)
        found[case] = (accelerator.reduce(loss.detach(), "mean").item(), float(norm))
    return found


@pytest.mark.slow
def test_every_attention_type_can_be_sharded():
    found, _ = in_two_processes(sharded_losses)
    for case in SHARDED_CASES:
        model = case_model(case, torch.float32)
        tokens = random_tokens(4, 19)
        loss = model(input_ids=tokens, labels=tokens, use_cache=False).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        assert found[case] == pytest.approx((loss.item(), norm.item()), rel=1e-3), case


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ema_decay": 0.9}, "ema_decay=0.9 does not work with sharded weights: leave it out, or launch without FSDP"),
        ({"torch_compile": True}, "torch_compile=True does not work with sharded weights"),
    ],
)
def test_what_needs_whole_weights_all_the_time_is_refused(settings, message):
    accelerator = SimpleNamespace(distributed_type=DistributedType.FSDP, is_fsdp2=True, mixed_precision="no")
    with pytest.raises(ValueError, match=message):
        check_sharding(accelerator, {"ema_decay": 0.0, "torch_compile": False} | settings)


def test_fsdp_of_version_1_is_refused():
    accelerator = SimpleNamespace(distributed_type=DistributedType.FSDP, is_fsdp2=False)
    with pytest.raises(ValueError, match="set fsdp_version to 2 in the launch file"):
        check_sharding(accelerator, {})

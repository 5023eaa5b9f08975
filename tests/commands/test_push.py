"""The export runs without birthgpt installed."""

import ast
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from builders import CASES, case_model, random_tokens, run_without_package, seq2seq_model
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from birthgpt.commands.model_card import changed_settings, model_card
from birthgpt.commands.push import PushSettings, add_code, export
from birthgpt.commands.run_metadata import read_run_metadata
from birthgpt.model.attention import ATTENTION_TYPES

# -S leaves out the .pth file by which the package is installed; the other packages are named one by one
WITHOUT_PACKAGE = """
import sys
sys.path += {paths!r}
try:
    import birthgpt
    sys.exit("birthgpt must not be importable here")
except ModuleNotFoundError:
    pass
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, pipeline
folder = {folder!r}
config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
base = AutoModel.from_pretrained(folder, trust_remote_code=True)
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
tokenizer = AutoTokenizer.from_pretrained(folder)
assert type(base).__name__ == "BirthGPTModel", type(base)
inputs = tokenizer("Where was Ada born?", return_tensors="pt")
assert torch.equal(base(**inputs).last_hidden_state, model(**inputs, output_hidden_states=True).hidden_states[-1])
ask = pipeline("text-generation", model=model, tokenizer=tokenizer)
ask("Where was Ada born?", return_full_text=False)
torch.save(model(**inputs).logits, {logits!r})
"""

EVERY_TYPE_WITHOUT_PACKAGE = """
import sys
sys.path += {paths!r}
import torch
from transformers import AutoModelForCausalLM
results = {{}}
for case, folder in {folders!r}.items():
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokens = torch.tensor({tokens!r})
    generated = model.generate(tokens, max_new_tokens=8, do_sample=False, num_beams=2, eos_token_id=None)
    results[case] = model(tokens).logits, generated
assert "birthgpt" not in sys.modules
torch.save(results, {results!r})
"""

SEQ2SEQ_WITHOUT_PACKAGE = """
import sys
sys.path += {paths!r}
import torch
from transformers import AutoModel, AutoModelForSeq2SeqLM
results = {{}}
for case, folder in {folders!r}.items():
    encoder = AutoModel.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, trust_remote_code=True)
    tokens = torch.tensor({tokens!r})
    generated = model.generate(tokens, max_new_tokens=8, do_sample=False, num_beams=2, eos_token_id=None)
    results[case] = encoder(tokens).last_hidden_state, generated
assert "birthgpt" not in sys.modules
torch.save(results, {results!r})
"""


SAVE_AGAIN_WITHOUT_PACKAGE = """
import sys
sys.path += {paths!r}
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
from pathlib import Path
folder, again = {folder!r}, Path({again!r})
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
model.save_pretrained(again / "save_pretrained")
AutoModel.from_pretrained(folder, trust_remote_code=True).save_pretrained(again / "base")
Trainer(model=model, args=TrainingArguments(str(again / "logs"), report_to=[])).save_model(str(again / "trainer"))
for place in again.iterdir():
    AutoTokenizer.from_pretrained(folder).save_pretrained(place)
"""

LOAD_WITHOUT_PACKAGE = """
import sys
sys.path += {paths!r}
from pathlib import Path
from transformers import AutoModel, AutoModelForCausalLM
for place in Path({again!r}).iterdir():
    if place.name != "logs":
        assert type(AutoModel.from_pretrained(place, trust_remote_code=True)).__name__ == "BirthGPTModel"
        AutoModelForCausalLM.from_pretrained(place, trust_remote_code=True)
"""


@pytest.fixture
def exported(finetuned, tmp_path):
    return export(PushSettings(model_name_or_path=str(finetuned), output_dir=str(tmp_path / "export")))


def test_the_export_contains_code_card_and_all_three_classes(exported):
    names = {path.name for path in exported.iterdir()}
    assert {"README.md", "modeling_birthgpt.py", "configuration_birthgpt.py", "attention_softmax.py"} <= names
    assert not any(name.startswith("run") or name == "training_state" for name in names)
    config = json.loads((exported / "config.json").read_text())
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForCausalLM"}
    assert "library_name: transformers" in (exported / "README.md").read_text()


def test_an_export_names_settings_of_its_run_and_no_place(exported, finetuned):
    card = (exported / "README.md").read_text()
    record = json.loads((finetuned / "run.json").read_text())
    (line,) = [line for line in card.splitlines() if line.startswith("- settings: ")]
    shown = dict(part.split("=") for part in line.removeprefix("- settings: ").split(", "))
    assert shown["max_train_steps"] == str(record["settings"]["max_train_steps"])
    assert "learning_rate" not in shown or record["settings"]["learning_rate"] != 1e-3
    places = [value for value in record["settings"].values() if isinstance(value, str) and "/" in value]
    places += [str(Path(sys.argv[0]).resolve()), str(Path.cwd())]
    places += [str(finetuned), str(finetuned.parent), str(exported.parent)]
    for file in exported.iterdir():
        for place in places:
            assert place.encode() not in file.read_bytes() or file.suffix == ".py", (file.name, place)


def test_a_card_shows_no_free_text_of_a_run():
    places = {"train_file": "/home/me", "seed": "../me", "attention_type": ["/me"], "per_layer_config": {"a": "/me"}}
    changed = {"learning_rate": 0.01, "tokenizer_type": "bpe", "logging_steps": 3, "num_hidden_layers": 4}
    # what is the default, or does not change the result, is not shown
    assert changed_settings("finetuning", places | changed) == ["tokenizer_type=bpe", "learning_rate=0.01"]


def test_a_run_of_an_unknown_kind_is_damaged(finetuned, tmp_path):
    folder = shutil.copytree(finetuned, tmp_path / "damaged")
    (folder / "run.json").write_text(json.dumps(json.loads((folder / "run.json").read_text()) | {"kind": "x"}))
    with pytest.raises(ValueError, match="run.json is damaged: kind is 'x'"):
        read_run_metadata(folder)


@pytest.mark.parametrize(
    "title", ["<img src=x onerror=alert(1)>", "[you](http://evil)", "`rm`", "a\n# b", 'x", evil=("', "**bold** $x$"]
)
def test_a_name_with_markup_is_shown_as_it_is(finetuned, title):
    card = model_card(AutoModelForCausalLM.from_pretrained(finetuned), None, title)
    tokens = pytest.importorskip("markdown_it").MarkdownIt().parse(card.split("---\n", 2)[2])
    heading = tokens[1]
    assert "".join(part.content for part in heading.children) == " ".join(title.split())
    assert {part.type for part in heading.children} <= {"text", "text_special"}
    codes = [ast.parse(token.content) for token in tokens if token.type == "fence"]
    for code, keywords in zip(codes, (["trust_remote_code"], []), strict=True):
        calls = [node for node in ast.walk(code) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        (call,) = [node for node in calls if node.func.id == "pipeline"]
        assert ast.literal_eval(call.args[1]) == title and len(call.args) == 2
        assert [keyword.arg for keyword in call.keywords] == keywords


@pytest.mark.slow
def test_the_export_runs_without_the_package(exported, finetuned, tmp_path):
    logits = tmp_path / "logits.pt"
    run_without_package(WITHOUT_PACKAGE, tmp_path, folder=str(exported), logits=str(logits))
    model = AutoModelForCausalLM.from_pretrained(finetuned)
    inputs = AutoTokenizer.from_pretrained(finetuned)("Where was Ada born?", return_tensors="pt")
    torch.testing.assert_close(torch.load(logits), model(**inputs).logits)


def modules_named(folder: Path) -> set[str]:
    """The modules that the `auto_map` of a checkpoint names."""
    auto_map = json.loads((folder / "config.json").read_text()).get("auto_map", {})
    return {name.split(".")[0] + ".py" for name in auto_map.values()}


def test_an_export_that_is_saved_again_names_no_code_that_is_not_beside_it(exported, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(exported)
    base = AutoModel.from_pretrained(exported)
    arguments = TrainingArguments(str(tmp_path / "logs"), report_to=[])
    model.save_pretrained(tmp_path / "save_pretrained")
    base.save_pretrained(tmp_path / "base")
    model.config.save_pretrained(tmp_path / "config")
    Trainer(model=model, args=arguments).save_model(str(tmp_path / "trainer"))
    for name in ("save_pretrained", "base", "config", "trainer"):
        assert modules_named(tmp_path / name) <= {file.name for file in (tmp_path / name).iterdir()}, name
    assert modules_named(exported) == {"configuration_birthgpt.py", "modeling_birthgpt.py"}
    AutoModelForCausalLM.from_pretrained(tmp_path / "trainer")


@pytest.mark.slow
def test_an_export_that_is_saved_again_without_the_package_runs_elsewhere(exported, tmp_path):
    again = tmp_path / "again"
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    run_without_package(SAVE_AGAIN_WITHOUT_PACKAGE, tmp_path / "first", folder=str(exported), again=str(again))
    # another machine has neither the export nor the cache of its code
    shutil.rmtree(exported)
    run_without_package(LOAD_WITHOUT_PACKAGE, tmp_path / "second", again=str(again))


def save_with_code(model, folder) -> str:
    model.save_pretrained(folder)
    add_code(folder)
    return str(folder)


def assert_same_without_package(script, tmp_path, folders, tokens, expected):
    """The script computes for each folder what was computed here: states or logits, and generated tokens."""
    results = tmp_path / "results.pt"
    run_without_package(script, tmp_path, folders=folders, tokens=tokens.tolist(), results=str(results))
    for case, (states, generated) in torch.load(results).items():
        torch.testing.assert_close(states, expected[case][0], msg=lambda text, case=case: f"{case}: {text}")
        assert torch.equal(generated, expected[case][1]), case


@pytest.mark.slow
def test_every_attention_type_runs_without_the_package(tmp_path):
    tokens, folders, expected = random_tokens(2, 9), {}, {}
    # settings that are the same for all types are tested with one type
    shared = ("rotary", "canon", "ngrams")
    for case in [case for case in CASES if case.startswith("softmax") or not case.endswith(shared)]:
        model, folder = case_model(case, torch.float32), tmp_path / case.replace("-", "_")
        generated = model.generate(tokens, max_new_tokens=8, do_sample=False, num_beams=2, eos_token_id=None)
        expected[case] = model(tokens).logits, generated
        folders[case] = save_with_code(model, folder)
    assert_same_without_package(EVERY_TYPE_WITHOUT_PACKAGE, tmp_path, folders, tokens, expected)


@pytest.mark.slow
def test_every_encoder_decoder_runs_without_the_package(tmp_path):
    tokens, folders, expected = random_tokens(2, 9), {}, {}
    for case in ATTENTION_TYPES:
        model, folder = seq2seq_model(case, torch.float32), tmp_path / case
        generated = model.generate(tokens, max_new_tokens=8, do_sample=False, num_beams=2, eos_token_id=None)
        expected[case] = model.encoder(tokens).last_hidden_state, generated
        folders[case] = save_with_code(model, folder)
    assert_same_without_package(SEQ2SEQ_WITHOUT_PACKAGE, tmp_path, folders, tokens, expected)


def test_an_existing_folder_is_kept_and_an_unreachable_hub_is_named(exported, finetuned):
    arguments = {"model_name_or_path": str(finetuned), "output_dir": str(exported)}
    with pytest.raises(ValueError, match="exists: pass --overwrite_output_dir true"):
        export(PushSettings(**arguments))
    with pytest.raises(ValueError, match="user/name could not be pushed .* the export is in"):
        export(PushSettings(**arguments, overwrite_output_dir=True, hub_model_id="user/name"))
    assert (exported / "config.json").is_file()


def test_a_dry_run_writes_nothing(finetuned, tmp_path, capsys):
    assert export(PushSettings(model_name_or_path=str(finetuned), output_dir=str(tmp_path / "x"), dry_run=True)) is None
    assert "modeling_birthgpt.py" in capsys.readouterr().out and not (tmp_path / "x").exists()

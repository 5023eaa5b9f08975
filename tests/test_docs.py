"""The documentation is current: generated pages, links, flags and names of configurations."""

import re
from pathlib import Path

import make_example
import make_readme
import make_settings
import pytest

from birthgpt.cli import COMMANDS, find_command
from birthgpt.settings import declared_settings, find_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md")] + sorted((ROOT / "docs").glob("*.md"))
# flags of pip, accelerate, pytest, the fuzz driver and of the scripts that are not commands; and of the version before
FLAGS_OF_OTHERS = {
    *(
        "config",
        "config_file",
        "help",
        "version",
        "extra-index-url",
        "from",
        "output_file",
        "compare_with",
        "case",
        "cases",
        "wiki_folder",
    ),
    *("num_processes", "num_machines", "machine_rank", "main_process_ip", "main_process_port"),
    *("writing_params_path", "reading_params_path", "finetune_corpus_path", "eval_corpus_path", "outputs_path"),
    *("bottleneck_dim", "cases", "case", "scale", "model_args", "tasks", "include_path", "metadata", "all", "small"),
    *("loading", "repo-type", "data_dir", "runs_dir", "page_file", "reference_seeds"),
}


def texts():
    return {page.name: page.read_text(encoding="utf-8") for page in PAGES}


def test_generated_pages_are_those_of_the_code_and_of_the_results():
    assert make_settings.PAGE.read_text(encoding="utf-8") == make_settings.settings_page()
    text = make_readme.README.read_text(encoding="utf-8")
    assert make_readme.readme(text) == text
    assert make_example.PICTURE.read_text(encoding="utf-8") == make_example.draw(make_example.examples())


def test_a_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match="<!-- accuracy -->"):
        make_readme.readme("# birthgpt\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not link.startswith("../../actions")]
    assert [link for link in missing if not (page.parent / link).exists()] == []


def test_every_flag_is_a_setting():
    declared = {name for command in COMMANDS for name in declared_settings(find_command(command).settings)}
    for name, text in texts().items():
        # the lab notes name flags as they were called at their time
        if name != "lab-notes.md":
            used = set(re.findall(r"(?<![\w-])--([a-z]\w*(?:-\w+)*)", text))
            assert used - declared - FLAGS_OF_OTHERS - {"attention_type", "mean_power"} == set(), name


def test_every_configuration_that_is_named_exists():
    for name, text in texts().items():
        for config in re.findall(r"--config (?:configs/)?([\w./]+/[\w.]+)", text):
            assert find_config(config).is_file(), (name, config)


def test_the_readme_can_be_read_in_one_sitting():
    assert len(texts()["README.md"].splitlines()) <= 200
    assert len((ROOT / "RESULTS.md").read_bytes()) <= 10 * 1024

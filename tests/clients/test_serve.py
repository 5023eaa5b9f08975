"""`transformers serve` looks for the class of a model in transformers alone, so it takes no custom code."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REASON = "has no attribute BirthGPTForCausalLM"


@pytest.fixture
def server(workspace, tmp_path):
    """The log of a server that was started as its documentation says."""
    program = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", program, "serve", "--trust-remote-code", "--device", "cpu", "--port", "8123"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}
    log = tmp_path / "log"
    with open(log, "w") as file:
        process = subprocess.Popen(command, cwd=workspace.folder, env=environment, stdout=file, stderr=file)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen("http://localhost:8123/health").close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.2)
        yield log
    finally:
        process.terminate()
        process.wait()


@pytest.mark.parametrize("workspace", ["softmax"], indirect=True)
def test_custom_code_is_not_taken(run, fails, server):
    with pytest.raises(urllib.error.HTTPError):
        run("serve_chat")
    for _ in range(100):
        # the server answers before it logs
        if REASON in server.read_text():
            break
        time.sleep(0.2)
    assert REASON in server.read_text()
    fails(
        f"`transformers serve` looks for the class of the model in transformers itself (module transformers {REASON})"
    )

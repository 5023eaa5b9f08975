"""Mutated checkpoints, inputs and settings against every command, with the class of each outcome.

A case is made from its seed and number alone, so a failing case can be repeated: `python -m tests.fuzz --case 17`.
"""

import os
import tempfile

# before any import of huggingface_hub: no case may reach the Hub, or use the cache of a user
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HOME", tempfile.mkdtemp(prefix="birthgpt-fuzz-"))
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

"""lm-evaluation-harness: the tasks of the package."""

import birthgpt
import lm_eval
from birthgpt.lm_eval import TASKS
from lm_eval.tasks import TaskManager

questions = {"question_file": "questions.jsonl"}
manager = TaskManager(include_path=TASKS, metadata=questions, include_defaults=False)
tasks = ["birthgpt_answers", "birthgpt_choices"]
model = {"pretrained": "you/model", "device": "cpu"}
report = lm_eval.simple_evaluate("hf", model, tasks=tasks, task_manager=manager, batch_size=8)

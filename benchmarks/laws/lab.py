"""The lab of the laws: people and trainings of the sizes of an experiment."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.lab import Lab
from benchmarks.laws.law import Sizes


@dataclass
class LawLab(Lab):
    """A lab that knows how large its experiment is.

    Args:
        sizes: the sizes of the experiment.
    """

    sizes: Sizes

    def people(self, name: str, **settings: object) -> Path:
        """The folder of synthetic people; half of them are held out."""
        people = settings.pop("people", self.sizes.people)
        held_out = settings.pop("held_out", int(str(people)) // 2)
        relations = settings.pop("relations", self.sizes.relations)
        return self.run("people", name, people=people, held_out=held_out, relations=relations, **settings)

    def pretrain(self, name: str, lines: Path, **settings: object) -> Path:
        """A model that is pretrained on lines, by language modelling if the settings do not say anything else."""
        defaults: dict[str, object] = {"config": "quickstart/pretrain", "objective": "language_modeling"}
        given: dict[str, object] = {
            "train_file": lines,
            "question_ratio": 0,
            "validation_size": 0,
            "tokens_per_batch": self.sizes.pretraining_batch,
            "max_train_flops": self.sizes.max_train_flops,
            "save_steps": 0,
        }
        return self.run("pretrain", name, **(defaults | dict(self.sizes.model) | given | settings))

    def finetune(self, name: str, model: Path, questions: Path, **settings: object) -> Path:
        """A model that is finetuned on a file of questions; the weights that answer most held-out ones are kept."""
        given: dict[str, object] = {
            "config": "relations/finetune",
            "model_name_or_path": model,
            "train_file": questions,
            "validation_size": self.sizes.validation_size,
            "eval_steps": 20,
            "tokens_per_batch": self.sizes.finetuning_batch,
            # models that read lines only have to learn here what a question is
            "learning_rate": 3e-3,
            "max_train_steps": self.sizes.finetuning_steps,
            "save_steps": 0,
        }
        return self.run("finetune", name, **(given | settings))

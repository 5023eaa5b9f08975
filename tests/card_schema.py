"""What the Hub accepts as the metadata of a model card, by its documentation and by the messages of its refusals."""

import re
from typing import Any

# the list in the Hub's own refusal of another licence
LICENCES = set(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0
    lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown
    other
    """.split()
)
ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


def metadata_errors(data: dict[str, Any]) -> list[str]:
    """What the Hub refuses, in words; nothing for valid metadata."""
    errors = [f'"{name}" must be a string' for name in ("library_name", "pipeline_tag") if not _is_text(data, name)]
    if data.get("license", "mit") not in LICENCES:
        errors.append(f'"license" must be one of [{", ".join(sorted(LICENCES))}]')
    for language in _listed(data.get("language")):
        if language not in ("code", "multilingual") and not re.fullmatch("[a-z]{2,3}", str(language)):
            errors.append(f'"language" must be an ISO 639-1, 639-2 or 639-3 code, not {language!r}')
    for name in ("base_model", "datasets"):
        for value in _listed(data.get(name)):
            if not isinstance(value, str) or not ID.fullmatch(value):
                errors.append(f'"{name}" with value {value!r} is not valid')
    for name in ("tags", "metrics"):
        if not all(isinstance(value, str) for value in _listed(data.get(name))):
            errors.append(f'"{name}" must be a list of strings')
    for number, model in enumerate(_listed(data.get("model-index"))):
        errors += _model_errors(f"model-index[{number}]", model)
    return errors


def _model_errors(where: str, model: dict[str, Any]) -> list[str]:
    errors = [] if _is_text(model, "name") and model.get("name") else [f'"{where}.name" is required']
    for number, result in enumerate(model.get("results") or ()):
        place = f"{where}.results[{number}]"
        required = {
            "task": {"type": result.get("task", {}).get("type")},
            "dataset": {key: result.get("dataset", {}).get(key) for key in ("type", "name")},
        }
        for part, values in required.items():
            errors += [f'"{place}.{part}.{key}" is required' for key, value in values.items() if not value]
        for metric in result.get("metrics") or [{}]:
            if not isinstance(metric.get("type"), str) or metric.get("value") is None:
                errors.append(f'"{place}.metrics" need a type and a value')
    return errors


def _is_text(data: dict[str, Any], name: str) -> bool:
    return isinstance(data.get(name, ""), str)


def _listed(value: Any) -> list:
    return [] if value is None else value if isinstance(value, list) else [value]

"""YAML without its surprises: what has two meanings is an error, with its line."""

import re
from typing import Any

import yaml

_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")


def load_yaml(text: str) -> Any:
    """The content of a YAML document, as `yaml.safe_load` reads it.

    Raises:
        ValueError: it is not YAML; a key is given twice; there is an alias, which may stand for any amount of text; a
            number is octal, hexadecimal, binary or to base 60 (`010` is 8, and `1:30` is 90, in YAML); a truth value is
            not `true` or `false` (`no` may be text).
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506, the loader is a safe one
    except yaml.YAMLError as error:
        raise ValueError(f"this is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError("this is not YAML: it is nested too deeply") from None


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            alias = self.peek_event()
            raise ValueError(f"{_line(alias)}: *{alias.anchor} is an alias: write the value itself")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, (key_node, _) in enumerate(node.value):
            if keys[index] in keys[:index]:
                raise ValueError(f"{_line(key_node)}: {keys[index]!r} is given twice")
        return super().construct_mapping(node, deep=deep)

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """A decimal number."""
        if not _DECIMAL.fullmatch(node.value):
            raise ValueError(f"{_line(node)}: {node.value} is another number in YAML: {_HINT}")
        return self.construct_yaml_int(node)

    def construct_number(self, node: yaml.ScalarNode) -> float:
        """A decimal number with a fraction."""
        if ":" in node.value:
            raise ValueError(f"{_line(node)}: {node.value} is a number to base 60 in YAML: {_HINT}")
        return self.construct_yaml_float(node)

    def construct_truth(self, node: yaml.ScalarNode) -> bool:
        """`true` or `false`."""
        if node.value.lower() not in ("true", "false"):
            raise ValueError(f"{_line(node)}: {node.value} is a truth value in YAML: write true or false, or quote it")
        return self.construct_yaml_bool(node)


_HINT = "write it in decimal digits without a leading zero, or quote it if it is text"

_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:bool", _Loader.construct_truth)


def _line(node: Any) -> str:
    return f"line {node.start_mark.line + 1}"

"""
The parameters of one payout as a YAML file that papermill's ``-f`` and ``manual-payout run -f`` read alike.

YAML has opinions: ``NO`` is false, ``0123`` is 83, ``1:30`` is 90. Where it would read something else than a person
sees in the file, the value is refused here; what we write ourselves is quoted.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from manual_payout.domain.errors import ParameterError, UsageError
from manual_payout.domain.parameters import STAGE_PARAMETERS, Parameters, refuse_unknown

_AMOUNTS = frozenset({"amount", "reserve_after"})
_IDS = frozenset({"studio_id", "ledger_payout_id"})
_FLAGS = frozenset({"dry_run", "automation_restored"})

# The longest valid file is some 15 kB; beyond this, somebody has named the wrong file.
_BYTES_MAX = 100_000

# As a person writes an amount; a leading zero would be octal to YAML.
_DECIMAL = re.compile(r"(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", re.ASCII)

_TAG = "tag:yaml.org,2002:"
# papermill leaves dates as text, and so do we.
_TEXT_TAGS = frozenset({f"{_TAG}str", f"{_TAG}timestamp"})
_PLAIN_TAGS = frozenset({f"{_TAG}int", f"{_TAG}float", f"{_TAG}bool", f"{_TAG}null"})

_HEAD = """\
# The parameters of every stage notebook, as filed. Read alike by
#   manual-payout run -f FILE --operator WHO
#   papermill -f FILE -r operator WHO runbooks/1-verify.ipynb OUT.ipynb
"""


def parameter_file_text(parameters: Parameters) -> str:
    """
    Write *parameters* as a file for a dry run; who operates is left open.

    Every text is quoted as JSON quotes it, which YAML reads as the same text.
    """
    values = parameters.as_dict() | {"operator": "", "dry_run": True, "confirm": ""}
    return _HEAD + "".join(f"{name}: {json.dumps(values[name], ensure_ascii=False)}\n" for name in STAGE_PARAMETERS)


def read_parameter_file(path: Path) -> dict[str, Any]:
    """
    Read a parameter file as it was typed.

    Returns:
        Values by name: text, and true or false for flags; not yet validated otherwise.

    Raises:
        UsageError: The file cannot be read, or is no YAML of names and values.

        ParameterError: A name is unknown or there twice, or YAML reads its value as something else than it shows.
    """
    root, text = _compose(path)
    if not isinstance(root, yaml.MappingNode):
        found = "nothing" if root is None else f"a {root.id}"
        raise UsageError(
            f"The parameter file {path} holds {found}, expected names and values.",
            'Write one `name: "value"` a line, as `manual-payout request` does.',
        )
    values: dict[str, Any] = {}
    for key, node in root.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "a name"
        shown = node.value if isinstance(node, yaml.ScalarNode) else f"a {node.id}"
        refuse_unknown({name: shown})
        if name in values:
            raise ParameterError(name, shown, "each name once", f"Take one of the two lines with {name} out of {path}.")
        _refuse_comment(name, node, text, path)
        values[name] = _value(name, node, path)
    return values


def _refuse_comment(name: str, node: Any, text: str, path: Path) -> None:
    """Refuse words that YAML cuts off: to it ``see #4711`` is the word *see*."""
    rest = text[node.end_mark.index :].partition("\n")[0].strip()
    is_plain = isinstance(node, yaml.ScalarNode) and node.style is None and node.tag in _TEXT_TAGS
    if is_plain and rest.startswith("#"):
        whole = f"{node.value} {rest}"
        raise ParameterError(
            name,
            whole,
            f"text in quotes; YAML reads only {node.value!r} of this",
            f"Write it as {name}: {json.dumps(whole, ensure_ascii=False)} in {path}; a remark belongs on a line of its own.",
        )


def _compose(path: Path) -> tuple[Any, str]:
    try:
        data = path.read_bytes()
        if len(data) > _BYTES_MAX:
            raise UsageError(
                f"The parameter file {path} has {len(data)} bytes, expected a few lines.", "Name the right file."
            )
        text = data.decode("utf-8-sig")
        return yaml.compose(text, Loader=yaml.SafeLoader), text
    except OSError as error:
        raise UsageError(
            f"The parameter file {path} cannot be read: {error.strerror}.", "Correct the path after --file."
        ) from None
    except UnicodeDecodeError:
        raise UsageError(
            f"The parameter file {path} is not UTF-8 text.", "Save it as UTF-8, or name another."
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise UsageError(
            f"The parameter file {path} is not YAML{where}: {problem}.",
            'Write one `name: "value"` a line, as `manual-payout request` does.',
        ) from None


def _value(name: str, node: Any, path: Path) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        raise ParameterError(name, f"a {node.id}", "one value", f"Write {name} on one line in {path}.")
    if node.tag in _TEXT_TAGS:
        return node.value
    if node.tag not in _PLAIN_TAGS:
        raise ParameterError(name, node.tag, "a value without a YAML tag", f"Take the tag out of {path}.")
    value = _plain(name, node)
    if isinstance(value, bool) and name in _FLAGS:
        return value
    if name in _AMOUNTS and _DECIMAL.fullmatch(node.value) and Decimal(node.value) == Decimal(repr(value)):
        # As typed: the float in between has nothing to add.
        return node.value
    if name in _IDS and str(value) == node.value:
        return node.value
    expected = "true or false" if name in _FLAGS else "text in quotes"
    raise ParameterError(
        name,
        node.value,
        f"{expected}; YAML reads this as {value!r}",
        f"Write it as {name}: {'true' if name in _FLAGS else json.dumps(node.value, ensure_ascii=False)} in {path}.",
    )


def _plain(name: str, node: yaml.ScalarNode) -> Any:
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (ValueError, yaml.YAMLError):
        raise ParameterError(name, node.value, "what its YAML tag says", "Write the value in quotes.") from None

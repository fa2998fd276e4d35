"""Writes `docs/chart.md` from the comments of the chart's values: `python tools/chart_docs.py`, or `--check`.

Text behind `# --` above a key says what it means. A key without it is refused, unless it is a map of keys that have one.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
VALUES = REPOSITORY / "helm" / "trenza" / "values.yaml"
EXAMPLES = VALUES.parent / "ci"
PAGE = REPOSITORY / "docs" / "chart.md"
HEAD = """# The chart

Every value of `helm/trenza`. This page is made from `helm/trenza/values.yaml` by `make chart-docs`.

```sh
helm install trenza helm/trenza --namespace trenza --create-namespace
```

With no values at all that is a mesh for a cluster without GPUs: two gateways, the scheduler, and a pool of one replica for each
modality, with the starter models that the images carry. Mistakes in values are refused before anything is sent to the cluster.

## Examples

They lie in `helm/trenza/ci`; each is linted, rendered and validated by the tests.

"""
Mark = tuple[str, str, str]


class Undocumented(Exception):
    """A key of the values has no comment; the message names it."""


def page() -> str:
    """The whole page. Raises Undocumented."""
    lines = VALUES.read_text().splitlines()
    root = yaml.compose(VALUES.read_text())
    assert isinstance(root, yaml.MappingNode)
    alone = [mark for key, value in root.value for mark in _alone(key, value, lines)]
    sections = [_section(key, value, lines) for key, value in root.value if _has_parts(value, lines)]
    return "\n".join([HEAD + _examples(), "## Values\n", _table(alone), *sections])


def _examples() -> str:
    rows = ["| File | |", "|---|---|"]
    for path in sorted(EXAMPLES.glob("*-values.yaml")):
        comment = path.read_text().partition("\n")[0].removeprefix("# ")
        rows.append(f"| [`{path.name}`](../{path.relative_to(REPOSITORY)}) | {_cell(comment)} |")
    return "\n".join(rows) + "\n"


def _alone(key: yaml.Node, value: yaml.Node, lines: list[str]) -> Iterator[Mark]:
    if not _has_parts(value, lines):
        yield _mark(key.value, key, value, lines)


def _section(key: yaml.Node, value: yaml.Node, lines: list[str]) -> str:
    comment = _comment(key, lines)
    return f"### {key.value}\n\n" + (f"{comment}\n\n" if comment else "") + _table(_marks(key.value, value, lines))


def _marks(path: str, node: yaml.Node, lines: list[str]) -> Iterator[Mark]:
    assert isinstance(node, yaml.MappingNode)
    for key, value in node.value:
        name = f"{path}.{key.value}"
        if _has_parts(value, lines):
            yield from _marks(name, value, lines)
        else:
            yield _mark(name, key, value, lines)


def _mark(name: str, key: yaml.Node, value: yaml.Node, lines: list[str]) -> Mark:
    comment = _comment(key, lines)
    if not comment:
        raise Undocumented(f"{name} has no comment `# -- …` above it")
    default = json.dumps(yaml.SafeLoader("").construct_object(value, deep=True), ensure_ascii=False)
    return name, default, comment


def _has_parts(node: yaml.Node, lines: list[str]) -> bool:
    """Whether it is a map of keys that are documented themselves."""
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        return False
    return any(_comment(key, lines) or _has_parts(value, lines) for key, value in node.value)


def _comment(key: yaml.Node, lines: list[str]) -> str:
    """The comment above a key, in one line, without its marker."""
    said: list[str] = []
    at = key.start_mark.line - 1
    while at >= 0 and re.match(r"\s*#", lines[at]):
        said.insert(0, re.sub(r"^\s*# ?(-- )?", "", lines[at]))
        at -= 1
    return " ".join(said)


def _table(marks: Iterator[Mark] | list[Mark]) -> str:
    rows = [f"| `{name}` | `{_cell(default)}` | {_cell(comment)} |" for name, default, comment in marks]
    return "\n".join(["| Value | Default | Meaning |", "|---|---|---|", *rows]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Writes the page, or says that it is out of date."""
    try:
        made = page()
    except Undocumented as missing:
        sys.exit(f"{VALUES.relative_to(REPOSITORY)}: {missing}")
    if "--check" not in sys.argv:
        PAGE.write_text(made)
    elif not PAGE.exists() or PAGE.read_text() != made:
        sys.exit("docs/chart.md is out of date: run make chart-docs")


if __name__ == "__main__":
    main()

"""How findings are printed: for people, for programs, beside the lines of a pull request, and for code scanners."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .. import __version__
from ..taxonomy.lint import Finding, Rule, load_rules
from .streams import shown_json
from .terminal import printable


def as_text(findings: Sequence[Finding], root: Path) -> str:
    """A line for each finding, its path as seen from the current folder, and a summary."""
    if not findings:
        return "no findings"
    here = {path: os.path.relpath(root / path) for path in {finding.path for finding in findings}}
    lines = [printable(str(finding.model_copy(update={"path": here[finding.path]}))) for finding in findings]
    errors = sum(finding.severity == "error" for finding in findings)
    fixable = sum(finding.fixable for finding in findings)
    counts = f"{_count(errors, 'error')}, {_count(len(findings) - errors, 'warning')} in {_count(len(here), 'file')}"
    return "\n".join([*lines, counts + (f"; `tilth lint --fix` mends {fixable} of them" if fixable else "")])


def as_json(findings: Sequence[Finding]) -> str:
    """A list of objects."""
    return shown_json([finding.model_dump() for finding in findings], indent=2)


def as_github(findings: Sequence[Finding]) -> str:
    """Workflow commands of GitHub Actions: each is shown beside its line in a pull request."""
    return "\n".join(
        f"::{finding.severity} file={_property(finding.path)},line={finding.line},col={finding.column},"
        f"title={finding.code}::{_data(finding.message)}"
        for finding in findings
    )


def as_sarif(findings: Sequence[Finding]) -> str:
    """One run in the Static Analysis Results Interchange Format, version 2.1.0 (OASIS)."""
    rules = [rule for code, rule in load_rules().items() if any(finding.code == code for finding in findings)]
    places = {rule.code: index for index, rule in enumerate(rules)}
    driver = {
        "name": "tilth",
        "version": __version__,
        "rules": [_sarif_rule(rule) for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(finding, places[finding.code]) for finding in findings],
    }
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return shown_json({"$schema": schema, "version": "2.1.0", "runs": [run]}, indent=2)


def rule_text(rule: Rule) -> str:
    """All that is said of a code, as Markdown: what it stands for, why it matters, an example wrong and right."""
    parts = [f"{rule.what[:1].upper()}{rule.what[1:]}.", rule.why]
    language = "yaml" if rule.code < "E13" else "text"  # the others are about other files, or about folders
    for name, example in (("Wrong", rule.wrong), ("Right", rule.right)):
        parts += [f"{name}:", f"```{language}\n{example.rstrip()}\n```"] if example else []
    return "\n\n".join(parts)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _sarif_rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "shortDescription": {"text": rule.what},
        "fullDescription": {"text": rule.why},
        "help": dict.fromkeys(("text", "markdown"), rule_text(rule)),  # no address of a page is public, so no `helpUri`
        "defaultConfiguration": {"level": rule.severity},
    }


def _sarif_result(finding: Finding, rule_index: int) -> dict[str, Any]:
    region = {"startLine": finding.line, "startColumn": finding.column}
    place = {"artifactLocation": {"uri": quote(finding.path)}, "region": region}
    return {
        "ruleId": finding.code,
        "ruleIndex": rule_index,
        "level": finding.severity,
        "message": {"text": finding.message},
        "locations": [{"physicalLocation": place}],
    }

"""docs/websocket-document.md names every test of the document, and none that is not there."""

import ast
import re

from tests.processes import ROOT


def names_in_file() -> list[str]:
    source = (ROOT / "tests/acceptance/test_websocket_document.py").read_text()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = [node.name for node in ast.parse(source).body if isinstance(node, functions)]
    return [name for name in names if name.startswith("test_")]


def names_in_table() -> list[str]:
    table = (ROOT / "docs/websocket-document.md").read_text()
    return re.findall(r"\| `(test_\w+)` \|$", table, re.MULTILINE)


def test_the_table_names_each_test_of_the_document_once_and_in_order() -> None:
    assert names_in_table() == names_in_file()
    assert len(set(names_in_file())) == len(names_in_file()) > 30

"""Docstrings name their subject first: few begin with a pronoun or a relative word."""

import ast
import re

from tests.unit.imports import modules, tree

WEAK = re.compile(
    r"(Who|What|It|Its|Whether|Which|This|That|These|Those|They|Them|There|How|When|Where|Whoever|"
    r"Whatever|Whom|Whose|Everything|Nobody|None|As|Such)\b"
)
#: Of a hundred, at most.
ALLOWED = 1


def docstrings() -> list[tuple[str, str]]:
    """Where each stands, and its text."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [
        (f"{module}: {getattr(node, 'name', 'the module')}", text)
        for module in modules()
        for node in ast.walk(tree(module))
        if isinstance(node, kinds) and (text := ast.get_docstring(node))
    ]


def test_they_name_their_subject_first() -> None:
    found = docstrings()
    weak = [place for place, text in found if WEAK.match(text)]
    assert len(found) > 1500
    assert 100 * len(weak) <= ALLOWED * len(found), weak

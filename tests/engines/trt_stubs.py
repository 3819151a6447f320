"""Typed stubs of TensorRT's bindings, and mypy's findings in code that uses them.

In: importable bindings (trt_bindings.py). Out: stubs under the name `tensorrt`, made by
pybind11-stubgen from the signatures in the bindings' docstrings and repaired here.
"""

from __future__ import annotations

import ast
import keyword
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .trt_bindings import Bindings

MYPY_SETTINGS = """
[mypy]
strict = true
# Only the named modules are checked.
follow_imports = silent
ignore_missing_imports = true
# An ignore that is needed without TensorRT may be unused with it.
warn_unused_ignores = false
warn_return_any = false
enable_error_code = truthy-bool
disallow_any_expr = true
show_column_numbers = true
[mypy-numba.*,llvmlite.*]
follow_imports = skip
[mypy-tensorrt.*]
# Unused parts, such as plugins, have contradictory signatures.
ignore_errors = true
"""
# Implicit conversions, which the signatures do not have.
ALSO_ACCEPTED = {"Dims": "Dims | collections.abc.Sequence[int]", "FallbackString": "str"}


def make_stubs(bindings: Bindings, folder: Path) -> None:
    """Write folder/tensorrt/*.pyi, the stubs of `tensorrt`."""
    options = ["--print-invalid-expressions-as-is", "--numpy-array-remove-parameters"]
    raw = folder / "raw"
    bindings.run("-m", "pybind11_stubgen", *options, "-o", str(raw), "tensorrt_bindings")
    (folder / "tensorrt").mkdir()
    for path in sorted((raw / "tensorrt_bindings").glob("*.pyi")):
        (folder / "tensorrt" / path.name).write_text(repair(path.read_text()))


@dataclass(frozen=True, slots=True)
class Findings:
    """mypy's findings, "path:line:column: error: …" each."""

    errors: list[str]
    unknown: list[str]
    """Expressions of unknown type, which are no errors by themselves."""


def check_types(folder: Path, modules: Iterable[str], cache: Path) -> Findings:
    """Run mypy over modules of a package in `folder`, with the stubs there."""
    settings = folder / "mypy.ini"
    settings.write_text(MYPY_SETTINGS)
    options = ["--config-file", str(settings), "--cache-dir", str(cache)]
    targets = [part for module in modules for part in ("-m", module)]
    result = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *targets],
        env={**os.environ, "MYPYPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    lines = [line for line in result.stdout.splitlines() if ": error: " in line]
    # A crash of mypy is not a clean result.
    assert result.returncode == (1 if lines else 0), result.stdout + result.stderr
    unknown = [
        line for line in lines if re.search(r': Expression (type contains|has type) "', line)
    ]
    return Findings([line for line in lines if line not in unknown], unknown)


def repair(stub: str) -> str:
    """Turn a generated stub into valid and complete Python.

    C++ names become Python's (`nvinfer1::IBuilder` is `Builder`), printed enum values become `...`,
    and see `Repairs`. The repairs do not depend on what the engines use.
    """
    stub = stub.replace("tensorrt_bindings", "tensorrt")
    classes = set(re.findall(r"^class (\w+)", stub, re.MULTILINE))

    def name_in_python(match: re.Match[str]) -> str:
        name = match[1]
        known = (known for known in (name, name.removeprefix("I")) if known in classes)
        return next(known, "typing.Any")

    stub = re.sub(r"\b(?:\w+::)+(\w+)(?:<[^>]*>)?", name_in_python, stub)
    stub = re.sub(r"= <[\w.]+: -?\d+>", "= ...", stub)
    return ast.unparse(Repairs().visit(parse_stub(stub.splitlines())))


def parse_stub(lines: list[str]) -> ast.Module:
    """Parse the stub, repairing signatures that are invalid Python.

    Defaults before an argument without one are removed, as such a function needs all of them. An
    argument named like a keyword is renamed.
    """
    keywords = re.compile(rf"\b({'|'.join(keyword.kwlist)}): ")
    while True:
        try:
            return ast.parse("\n".join(lines))
        except SyntaxError as error:
            number = (error.lineno or 1) - 1
            plain = keywords.sub(r"\1_: ", lines[number])
            if "default" in error.msg:
                plain = re.sub(r" = [^,()]+(?=[,)])", "", plain)
            if plain == lines[number]:
                raise
            lines[number] = plain


class Repairs(ast.NodeTransformer):
    """Corrections of pybind11's signatures for mypy.

    - `bool` is a data type of TensorRT in this module, and Python's in annotations.
    - SupportsInt becomes int, which methods that our subclasses override receive.
    - Lists and strings are accepted where the signature has the class they are converted to.
    - Functions written in Python get types, and IHostMemory the buffer protocol.
    - Indexable classes are iterable.
    - `__len__` and `__bool__` of interfaces are hidden, so that mypy reports every `if network`: a
      network without layers is false.
    """

    def visit_Name(self, node: ast.Name) -> ast.expr:
        renamed = {"bool": "builtins.bool", "capsule": "typing.Any"}
        if isinstance(node.ctx, ast.Load) and node.id in renamed:
            return ast.parse(renamed[node.id], mode="eval").body
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        plain = {"typing.SupportsInt": "int", "typing.SupportsFloat": "float"}
        name = plain.get(ast.unparse(node))
        return ast.Name(name, ast.Load()) if name else node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        anything = ast.parse("typing.Any", mode="eval").body
        for argument in node.args.args:
            if isinstance(argument.annotation, ast.Name) and argument.arg != "self":
                wider = ALSO_ACCEPTED.get(argument.annotation.id, argument.annotation.id)
                argument.annotation = ast.parse(wider, mode="eval").body
        if node.returns is None:
            node.returns = anything
            for argument in node.args.args:
                argument.annotation = argument.annotation or anything
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        if re.match(r"I[A-Z]", node.name):
            hidden = ("__bool__", "__len__")
            body = [part for part in node.body if getattr(part, "name", "") not in hidden]
            node.body = body or [ast.Pass()]
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
        items = [
            ast.unparse(method.returns or ast.Name("object"))
            for method in methods
            if method.name == "__getitem__" and "slice" not in ast.unparse(method.args)
        ]
        if items and "__iter__" not in {method.name for method in methods}:
            iterator = f"def __iter__(self) -> collections.abc.Iterator[{items[0]}]: ..."
            node.body += ast.parse(iterator).body
        if node.name == "IHostMemory":
            node.body += ast.parse("def __buffer__(self, flags: int, /) -> memoryview: ...").body
        return node

    def visit_Module(self, node: ast.Module) -> ast.Module:
        self.generic_visit(node)
        imports = ast.parse("import builtins\nimport collections.abc\nimport typing").body
        node.body[1:1] = imports  # after `from __future__`
        return node


def list_attributes(source: str, package: str) -> list[str]:
    """Return each attribute "X.Y.Z" of the imported package that the source uses."""
    tree = ast.parse(source)
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    aliases = [
        (alias.asname or alias.name, alias.name) for node in imported for alias in node.names
    ]
    names = {name for name, module in aliases if module == package}
    chains = [
        ast.unparse(node).split(".") for node in ast.walk(tree) if isinstance(node, ast.Attribute)
    ]
    return sorted({".".join(rest) for first, *rest in chains if first in names})


def list_untyped(source: str, stub: str, unknown: Iterable[str]) -> list[str]:
    """Return each "value.name" with a value of unknown type, whose name mypy could not check.

    Only names that a class of the stub has. `unknown` are the `Findings` of this source.
    """
    matches = (
        re.search(r":(\d+):(\d+): error: Expression has type .Any", line) for line in unknown
    )
    places = {(int(match[1]), int(match[2]) - 1) for match in matches if match}
    members = {
        getattr(part, "name", "") or ast.unparse(getattr(part, "target", part))
        for node in ast.parse(stub).body
        if isinstance(node, ast.ClassDef)
        for part in node.body
    }
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr in members
        and (node.value.lineno, node.value.col_offset) in places
    ]

"""The rules of the house, held by a test: who imports whom, which library where, sizes, docstrings, no loose ends."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "protocol": set(),
    "service": set(),
    "tailer": {"protocol", "service"},
    "buck": {"protocol", "service"},
    "porter": {"protocol", "service"},
}
PACKAGES = tuple(MAY_IMPORT)

# Where Parquet is written and read.
PARQUET = ("porter/archive*.py", "porter/parquet*.py", "porter/hour.py", "porter/part.py", "porter/proof.py")
# A library, and the files (patterns under the root) that may import it.
FENCES = {
    "trio": ("protocol/link.py", "service/*", "tailer/*", "buck/*", "porter/*"),
    "msgpack": ("protocol/*",),
    "nacl": ("protocol/*",),
    "cryptography": ("protocol/noise.py",),
    "blake3": ("protocol/*",),
    "compression": ("protocol/*",),
    "backports": ("protocol/*",),
    "boto3": ("porter/objects.py", "porter/objects_s3.py"),
    "botocore": ("porter/objects.py", "porter/objects_s3.py"),
    "pyarrow": PARQUET,
    "numpy": (*PARQUET, "porter/base85.py", "porter/columnar.py"),
    "prometheus_client": ("service/metrics.py",),
    "h11": ("service/web.py", "service/sockets.py"),
    "wsproto": ("service/sockets.py",),
    "tomllib": ("service/*",),
}
# The world, which tailer, buck and porter reach through service/machine.py alone, and protocol not at all.
WORLD = {
    "os",
    "socket",
    "time",
    "random",
    "subprocess",
    "threading",
    "multiprocessing",
    "asyncio",
    "select",
    "tempfile",
}
WORLD |= {"pathlib", "shutil", "glob", "fcntl", "mmap", "ctypes", "secrets", "signal", "uuid"}
# Who may reach it without, and why.
WORLD_ALLOWED = {
    "protocol/kernel.py": {"os"},  # reads BUCK_PURE once, to choose the kernel
    "tailer/agent.py": {"pathlib"},  # asks for the current folder, which relative patterns mean
    "porter/objects.py": {"os", "pathlib", "tempfile"},  # an interface of its own, with a twin in memory
    "porter/archive.py": {"pathlib", "tempfile"},  # pyarrow writes real files, in a folder that it is given
    "porter/judgement.py": {"pathlib", "tempfile"},  # stores take files: so small objects are written to one first
    "porter/hour.py": {"pathlib"},
    "porter/part.py": {"pathlib"},
    "porter/parquet.py": {"pathlib"},
}
FUNCTION_LINES, FUNCTION_LINES_RARELY, FILE_LINES = 60, 40, 400
RARELY = 0.03


@cache
def sources() -> dict[str, ast.Module]:
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


def all_python() -> list[Path]:
    folders = [ROOT / name for name in (*PACKAGES, "tests", "bench")]
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def imports(tree: ast.AST, top_only: bool = False) -> Iterator[str]:
    """Names of imported modules; `top_only`: those that are imported when the module is."""
    for node in tree.body if top_only and isinstance(tree, ast.Module) else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield node.module or ""


def functions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Each function and the lines of its body, docstring aside."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
            yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1


def test_packages_import_only_what_they_may():
    wrong = []
    for path, tree in sources().items():
        package = path.split("/")[0]
        for name in imports(tree):
            other = name.split(".")[0]
            if other in PACKAGES and other != package and other not in MAY_IMPORT[package]:
                wrong.append(f"{path} imports {name}")
    assert not wrong


def test_libraries_stay_behind_their_fences():
    wrong = []
    for path, tree in sources().items():
        for name in imports(tree):
            fence = FENCES.get(name.split(".")[0])
            if fence is not None and not any(Path(path).match(pattern) or _under(path, pattern) for pattern in fence):
                wrong.append(f"{path} imports {name}")
    assert not wrong


def _under(path: str, pattern: str) -> bool:
    return pattern.endswith("/*") and path.startswith(pattern[:-1])


def test_the_world_is_reached_through_the_machine():
    wrong = []
    for path, tree in sources().items():
        if not path.startswith("service/"):
            forbidden = (
                WORLD - WORLD_ALLOWED.get(path, set()) - ({"random"} if _only_passes_randomness(tree) else set())
            )
            wrong += [f"{path} imports {name}" for name in imports(tree) if name.split(".")[0] in forbidden]
            wrong += [f"{path}:{line} opens a file" for line in _opens(tree)]
    assert not wrong


def _only_passes_randomness(tree: ast.Module) -> bool:
    """`random.Random` names the type of what a pure function is given; anything else, and making one, is an act."""
    made = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    uses = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    uses = [node for node in uses if isinstance(node.value, ast.Name) and node.value.id == "random"]
    return all(node.attr == "Random" and node not in made for node in uses)


def _opens(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            yield node.lineno


def test_no_module_imports_itself_in_a_circle():
    modules = {
        path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): tree for path, tree in sources().items()
    }
    edges = {name: sorted(set(_modules_of(tree, modules))) for name, tree in modules.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way, name))
        if name not in done:
            for other in edges[name]:
                visit(other, (*way, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def _modules_of(tree: ast.Module, modules: dict[str, ast.Module]) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            inner = [name for name in whole if name in modules]
            yield from inner or ([node.module] if node.module in modules else [])
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)


def test_functions_fit_on_a_screen():
    sizes = [(size, f"{path}: {name}") for path, tree in sources().items() for name, size in functions(tree)]
    sizes += [
        (size, f"{path.relative_to(ROOT)}: {name}")
        for path in all_python()
        if path.is_relative_to(ROOT / "tests") or path.is_relative_to(ROOT / "bench")
        for name, size in functions(ast.parse(path.read_text()))
    ]
    assert not [one for one in sizes if one[0] > FUNCTION_LINES]
    long = sorted(one for one in sizes if one[0] > FUNCTION_LINES_RARELY)
    assert len(long) <= RARELY * len(sizes), long


def test_files_are_one_idea_long():
    lengths = [(len(path.read_text().splitlines()), str(path.relative_to(ROOT))) for path in all_python()]
    assert not [one for one in lengths if one[0] > FILE_LINES]


def test_each_module_tells_its_story():
    silent = []
    for path in all_python():
        story = ast.get_docstring(ast.parse(path.read_text())) or ""
        if len(story) < 30:
            silent.append(str(path.relative_to(ROOT)))
    assert not silent


def test_nothing_is_left_for_later_or_silenced_without_a_reason():
    """Marks are put together here, so that this file doesn't hold them itself."""
    later = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    silenced = re.compile(r"#\s*(no" + r"qa|type:\s*ig" + r"nore)(\[[^]]*\])?[^#\n]*$")
    wrong = []
    for path in all_python():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if later.search(line) or silenced.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not wrong


def test_no_names_that_say_nothing():
    empty = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "core"}
    assert not [str(path) for path in all_python() if path.stem in empty]

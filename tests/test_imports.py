"""Imports point one way and in no circle, and docs/design.md names every room of utils/."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# From the bottom up. A room imports itself and what is below it; rooms on one line do not know each other.
LAYERS = (
    "utils.errors utils.startup",
    "utils.rows.columns utils.storage",
    "utils.rows.parquet",
    "utils.working_copies",
    "utils.ending utils.rows utils.video",
    "utils.cli utils.video_utils",
    "utils.workers",
    "utils.pipeline",
    "utils.models",
    "utils.cutting utils.scoring utils.captioning",
    "utils.report utils.export",
    "tools and the scripts",
)
HEIGHTS = {room: height for height, rooms in enumerate(LAYERS) for room in rooms.split()}
# EasyOCR's patch keeps the name and place that its users know, beside the scripts; the detector applies it. The report and the quick start's last lines
# print commands with the settings of the stages.
ALLOWED = {
    ("tools.fit_cuts", "cutscene_detect"),
    ("utils.scoring.easyocr_detector", "easyocr_detection_patched"),
    ("make_report", "tools.stage_settings"),
    ("tools.next_steps", "tools.stage_settings"),
}


def modules() -> dict[str, Path]:
    """The file of each module, by its dotted name."""
    files = [*ROOT.glob("*.py"), *ROOT.glob("utils/**/*.py"), *ROOT.glob("tools/**/*.py")]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


MODULES = modules()


def imported(file: Path) -> set[str]:
    """All modules that a file imports, anywhere in it: those of this project in full, others by their first name."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: a relative import"
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= inside or {str(node.module)}
    return {name if name in MODULES else name.partition(".")[0] for name in found}


IMPORTS = {name: imported(file) for name, file in MODULES.items()}


def room(module: str) -> str:
    return ".".join(module.split(".")[:2]) if module.startswith("utils.") else module


def height(module: str) -> int:
    return HEIGHTS[room(module)] if module.startswith("utils.") else len(LAYERS) - 1


def test_imports_point_one_way():
    arrows = {(module, name) for module, names in IMPORTS.items() for name in names & set(MODULES) - {"utils"}}
    wrong = {(a, b) for a, b in arrows if room(a) != room(b) and height(a) <= height(b)}
    assert wrong == ALLOWED


def test_no_circle():
    graph = {module: names & set(MODULES) for module, names in IMPORTS.items()}
    list(graphlib.TopologicalSorter(graph).static_order())  # a circle is a CycleError that lists it


def test_only_utils_cli_knows_flags():
    assert [n for n, names in IMPORTS.items() if n.startswith("utils.") and "argparse" in names] == ["utils.cli"]


def test_no_file_of_utils_is_over_400_lines():
    lines = {name: len(file.read_text().splitlines()) for name, file in MODULES.items() if name.startswith("utils.")}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_every_room_is_in_the_layout():
    layout = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    assert set(HEIGHTS) >= {room(name) for name in MODULES if name.startswith("utils.")}, "give it a line in LAYERS"
    folders = [folder.parent.name for folder in ROOT.glob("utils/*/__init__.py")]
    assert [name for name in folders if f"{name}/" not in layout] == []


def test_the_first_import_of_a_script_imports_nothing_that_python_s_own_start_has_not():
    """Ctrl-C meanwhile would be a traceback."""
    told = "import sys; before = {*sys.modules}; import utils.startup; print(*sorted({*sys.modules} - before))"
    ran = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) <= {"utils", "utils.startup", "_signal"}

"""``Architecture``: frozen, hashable, addressed by paths, written and read; and the house's dependency rules."""

import ast
import math
import subprocess
import sys
from pathlib import Path

import pytest

import stability as st
from stability import kernels

PACKAGE = Path(st.__file__).parent
ARCH = st.Architecture(
    (st.Layer(3, 2.0, 2, kernels.Exponential(2)), st.Layer(4, 4, 1, kernels.ArcCosine(1))), 0.5,
    front_end=st.front_ends.MeanRemoval(),
)  # fmt: skip


def test_plain_data_and_back():
    assert st.Architecture.from_dict(ARCH.to_dict()) == ARCH
    assert hash(st.Architecture.from_dict(ARCH.to_dict())) == hash(ARCH)
    assert '"kind":"arc_cosine"' in ARCH.to_json()


def test_paths_replace_one_value_or_that_of_all_layers():
    assert ARCH.replace("layers.-1.pooling_scale", 8).scales == (0.5, 2.0, 8.0)
    assert [layer.patch_size for layer in ARCH.replace("layers.*.patch_size", 5).layers] == [5, 5]
    assert ARCH.replace("front_end", None).front_end is None
    assert ARCH.replace("front_end", {"kind": "mean_removal"}) == ARCH
    assert ARCH.replace("layers.0.kernel", {"kind": "linear"}).layers[0].kernel == kernels.Linear()
    assert ARCH.replace("antialiasing", 0).antialiasing is None


def test_dyadic_scales_double():
    arch = st.Architecture.dyadic(depth=3, patch_size=3, subsampling=2, antialiasing=1.5)
    assert arch.scales == (1.5, 3.0, 6.0, 12.0)
    assert arch.spacings == (1, 2, 4, 8)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("e", [1, 2, 3, 4, 5])
def test_patch_radius_is_the_root_mean_square_offset(e, d):
    import itertools

    start = -((e - 1) // 2)
    offsets = itertools.product(range(start, start + e), repeat=d)
    arch = st.Architecture((st.Layer(1, 1.0, 3), st.Layer(e, 1.0)))
    squares = [sum(c * c for c in offset) for offset in offsets]
    assert arch.patch_radius(2, d) == pytest.approx(3 * math.sqrt(sum(squares) / len(squares)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: st.Layer(0, 1.0), "patch_size"),
        (lambda: st.Layer(3, -1.0), "pooling_scale"),
        (lambda: st.Layer(3, math.nan), "pooling_scale"),
        (lambda: st.Layer(3, 1.0, 1.5), "subsampling"),
        (lambda: st.Layer(3, 1.0, 1, "exponential"), "kernel"),
        (lambda: st.Architecture(()), "layers"),
        (lambda: st.Architecture((st.Layer(3, 1.0),), -1), "antialiasing"),
        (lambda: st.Architecture((st.Layer(3, 1.0),), boundary="zero"), "boundary"),
        (lambda: st.Architecture((st.Layer(3, 1.0),), front_end="mean"), "front_end"),
        (lambda: st.Architecture.dyadic(depth=0), "depth"),
        (lambda: st.Architecture.dyadic(antialiasing=0), "antialiasing"),
        (lambda: ARCH.replace("layers.5.patch_size", 3), "layer in"),
        (lambda: ARCH.replace("layers.0.patch_sise", 3), "did you mean 'patch_size'"),
        (lambda: ARCH.replace("antialising", 3), "did you mean 'antialiasing'"),
        (lambda: st.Architecture.from_dict({"layer": []}), "did you mean 'layers'"),
        (lambda: st.Architecture.from_dict({"layers": [{"patch_size": 3, "pooling_scal": 1}]}), "pooling_scale"),
        (lambda: st.Architecture.from_dict({"layers": [{"patch_size": 3, "pooling_scale": 1, "kernel": "x"}]}), "kind"),
        (lambda: ARCH.check_size((15, 16)), "multiple of 2"),
        (lambda: ARCH.check_size((4, 4)), "patch_size"),
    ],
)
def test_wrong_architectures_are_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- the house --------------------------------------------------------------------------------------------------

ORDER = [
    "files", "names", "boundaries", "kernels", "activations", "front_ends", "plugins", "plain_data", "architecture",
    "bounds", "grid", "workers", "images", "deformations", "operators", "anchors", "warps", "augmentation",
    "representations", "estimators", "certificates", "operator_norms", "rkhs", "recovery", "allowances", "ladders",
    "search", "training", "robustness", "sweeps", "quickstart", "plots", "report", "cli",
]  # fmt: skip
PURE = [
    "files", "names", "boundaries", "kernels", "activations", "front_ends", "plugins", "plain_data", "architecture",
    "anchors", "bounds", "plots", "report", "cli",
]  # fmt: skip
OPTIONAL = {
    "skimage": {"images/photographs.py"}, "altair": {"report/chart.py"}, "vl_convert": {"report/chart.py"},
    "finufft": {"warps/nonuniform.py"}, "sklearn": {"rkhs/methods.py", "estimators.py"},
}  # fmt: skip
"""Packages of an extra, and the files that may import each, inside a function."""
FACES = {"estimators.py"}
"""Files that are classes of such a package: they import it at their top, and no other file imports them."""


def imports(path: Path) -> set[str]:
    """Modules imported when the file is imported: not inside functions, not under TYPE_CHECKING."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                found.update(f"{child.module}.{alias.name}" for alias in child.names)
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if room(path) not in ("__init__", "__main__")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_to_the_left(path):
    here = ORDER.index(room(path))
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "stability" and len(parts) > 1 and parts[1] in ORDER:
            assert ORDER.index(parts[1]) <= here, f"{room(path)} must not import {parts[1]}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_pure_rooms_import_no_torch_and_representations_know_no_deformation(path):
    names = imports(path)
    if room(path) in PURE:
        assert not any(name.split(".")[0] in ("torch", "kornia") for name in names)
    if room(path) in ("operators", "representations"):
        assert not any(name.startswith(("stability.deformations", "stability.warps")) for name in names)


def test_optional_packages_are_imported_in_one_file_and_only_when_needed():
    found = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            called = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args
            names += [ast.literal_eval(node.args[0])] if called and isinstance(node.args[0], ast.Constant) else []
            for name in names:
                if name.split(".")[0] in OPTIONAL:
                    found.setdefault(name.split(".")[0], set()).add(str(path.relative_to(PACKAGE)))
        if str(path.relative_to(PACKAGE)) not in FACES:
            assert not {name.split(".")[0] for name in imports(path)} & set(OPTIONAL)
        assert not {name.split(".")[1] + ".py" for name in imports(path) if name.startswith("stability.")} & FACES
    assert found == OPTIONAL


def test_the_rules_find_what_breaks_them(tmp_path):
    bad = tmp_path / "grid.py"
    bad.write_text("import torch\nfrom stability.cli import main\ndef f():\n    import altair\n")
    assert imports(bad) == {"torch", "stability.cli.main"}
    assert ORDER.index("cli") > ORDER.index("grid")


def test_families_do_not_import_each_other():
    families = {
        "affine", "bspline", "bump", "compact", "divergence_free", "flow", "fourier", "gaussian", "gradient",
        "local_affine", "max_entropy", "mixed", "piecewise_linear", "thin_plate", "translation",
    }  # fmt: skip
    for family in families:
        names = imports(PACKAGE / "deformations" / f"{family}.py")
        assert not {name.split(".")[2] for name in names if name.startswith("stability.deformations.")} & families


def test_files_hold_one_idea():
    assert [str(path) for path in FILES if len(path.read_text().splitlines()) > 310] == []


@pytest.mark.parametrize(
    "module",
    [
        "stability",
        "stability.cli.main",
        "stability.bounds.closed_form",
        "stability.sweeps.chunks",
        "stability.sweeps.store",
    ],
)
def test_light_modules_load_neither_torch_nor_kornia_nor_altair_nor_matplotlib(module):
    code = (
        f"import sys, {module}; "
        "print([name for name in ('torch', 'kornia', 'altair', 'matplotlib', 'pandas') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_exports_are_lazy_and_complete():
    for name in st.__all__:
        assert getattr(st, name) is not None
    assert set(st.__all__) <= set(dir(st))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = st.nonsense
    with pytest.raises(AttributeError, match="did you mean 'FourierField'"):
        _ = st.FourierFeild

"""The names that users have typed go on meaning something, and the stub for editors says what the package does."""

import ast
import fnmatch
import operator
import tomllib
from pathlib import Path

import pytest

import rnnkit

PACKAGE = Path(rnnkit.__file__).parent

# Every public name, by module, as the library offered them before its modules were put into rooms. A name is taken
# out of here only together with a release that says so.
NAMES = {
    "": """
        ClaimError GateRecorder GradientRecorder LivePlot StateGradientRecorder __version__ check claim claims
        exercises explore hint initializers layers load plot probes progress recorders replication replications
        solution start_lesson sweeps tasks track use_or_reference
    """,
    "probes": """
        gate_statistics gates lyapunov_exponents prepare_gates prepare_saliency prepare_state_gradients
        prepare_state_jacobians saliency singular_values state_gradient_norms state_gradients state_jacobians
    """,
    "plot": """
        flow_over_training gates gradient_flow gradient_norms loss_surface show singular_values
    """,
    "sweeps": """
        Sweep SweepError start_workers sweep
    """,
    "recorders": """
        GateRecorder GradientRecorder StateGradientRecorder load
    """,
    "layers": """
        DenselyConnected GRUCell Highway LSTMCell Residual SimpleRNNCell StackedRNN
    """,
    "tasks": """
        ADDING_BASELINE AGREEMENT_WORDS BRACKETS_BASELINE NAME_ROLES SENTIMENT_BASELINE SENTIMENT_WORDS
        SOURCE_TOKENS STATEMENT_TOKENS TEMPORAL_ORDER_BASELINE TEXT_CHARACTERS TICKETS_BASELINE TICKETS_WORDS
        adding_problem agreement copy_memory copy_memory_baseline digit_images digits_by_row double_sum
        double_sum_baseline first_symbol_recall is_review last_noun_baseline name_roles open_brackets
        python_assignments python_brackets python_names python_text statements_of temporal_order
        terribly_exciting tickets tokens_of whole_text
    """,
    "initializers": """
        Chrono GateBias SpectralRadius
    """,
    "explore": """
        cliff depth gates gradient_flow
    """,
    "exercises": """
        CORRECT Exercise NOT_ATTEMPTED NOT_YET NotYet Outcome WrongNumbers catalogue check choice close evaluate
        explained hint outcome_of progress quiz solution use_or_reference
    """,
    "claims": """
        Claim ClaimError claim short
    """,
    "clinic": """
        Case PATIENTS UNSEEN accuracy chart compiled data trial unchanged updates
    """,
    "doctor": """
        ALL_WELL A_KERNELS_MEMORY ENOUGH_MEMORY Finding KERNEL_FIX LIBRARY_READY Machine PATIENCE course_folders
        examine find_folder glance read_kernel read_lock read_machine report try_imports verdict
    """,
    "lecture": """
        SENTENCES
    """,
}


@pytest.mark.parametrize(
    "path", [f"{module}.{name}".removeprefix(".") for module, names in NAMES.items() for name in names.split()]
)
def test_a_public_name_is_where_it_was(path):
    assert operator.attrgetter(path)(rnnkit) is not None


def stub():
    """Return what the stub says: name to where it comes from, and `__all__`."""
    imported, offered = {}, []
    for node in ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            imported |= {alias.name: node.module for alias in node.names}
        elif isinstance(node, ast.Assign):
            offered = ast.literal_eval(node.value)
    return imported, offered


def test_the_stub_says_what_the_package_offers():
    imported, offered = stub()
    assert sorted(offered) == sorted(rnnkit.__all__)
    homes = {name: f"rnnkit.{home}".removesuffix(f".{name}") for name, home in rnnkit._MODULES.items()}
    homes |= {name: f"rnnkit.{home}" for name, home in rnnkit._NAMES.items()}
    assert imported == homes


@pytest.mark.parametrize("file", ["__init__.pyi", "py.typed"])
def test_what_editors_and_type_checkers_read_is_installed_too(file):
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert (PACKAGE / file).is_file()
    assert any(fnmatch.fnmatch(file, pattern) for pattern in project["tool"]["setuptools"]["package-data"]["rnnkit"])

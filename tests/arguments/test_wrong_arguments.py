"""Every public function and class, each of its arguments in turn replaced by what is passed by mistake.

What comes of it is acceptance or one of our errors, never an error from the inside.
"""

from __future__ import annotations

import importlib

import pytest

from biril_nm.errors import BirilError, ConfigError
from tests.support.public_calls import constructors, exports, functions, methods, settings
from tests.support.public_things import WRONG, Things
from tests.support.public_tools import integers, studies, tools, trainings

MODULES = (
    "biril_nm",
    "biril_nm.coding",
    "biril_nm.compartments",
    "biril_nm.data",
    "biril_nm.engines",
    "biril_nm.evaluation",
    "biril_nm.export",
    "biril_nm.hardware_sim",
    "biril_nm.hw_graph",
    "biril_nm.hw_graph.plastic",
    "biril_nm.learning.rule",
    "biril_nm.learning.rules",
    "biril_nm.loihi",
    "biril_nm.models",
    "biril_nm.neurons",
    "biril_nm.parity",
    "biril_nm.recording",
    "biril_nm.testing",
    "biril_nm.training",
)
# Results, records that packages register, and names of types: users read them.
READ = {
    "available_engines", "BirilNet", "Callback", "CompartmentModel", "Connection", "Engine", "engine",
    "ConnectionRecording", "Evaluation", "Factor", "FloatAgreement", "GraphEvaluation", "History",
    "Link", "Loaders", "Mismatch", "NetOutput", "Node", "NodeRecording", "ParityReport", "Recording",
    "readout_scores", "Register", "ResetMode", "Shape", "ShardCounts", "Shift", "SignMode", "SpikeReset",
    "SpikingNet",
    "register", "DataSource", "Option", "Request",
    "unregister",
}  # fmt: skip


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    things = Things(tmp_path_factory.mktemp("things"))
    parts = (constructors, settings, methods, exports, functions, tools, trainings, studies)
    groups = [part(things) for part in parts]
    return {name: call for group in [*groups, integers()] for name, call in group.items()}


@pytest.fixture
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def outcome(call, given):
    """Nothing for acceptance or an error of ours, else the error from the inside."""
    try:
        call(**given)
    except BirilError as error:
        return "" if str(error).strip() else "an error without words"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.mark.usefixtures("_in_a_folder")
@pytest.mark.parametrize("label", WRONG)
def test_a_wrong_argument_is_taken_or_refused(calls, label):
    found = [
        f"{name}({key}={label}): {text}"
        for name, (call, given) in calls.items()
        for key in given
        if (text := outcome(call, {**given, key: WRONG[label]}))
    ]
    assert not found, "\n".join(found)


# Their good calls end in a refusal that costs no run: a missing engine, file or layer.
REFUSED = {
    "assert_parity", "build", "check_parity", "evaluate_graphs", "evaluate_sharded", "load_data",
    "read_rule", "report", "run_lava", "with_input_bias", "write", "write_report",
}  # fmt: skip


@pytest.mark.usefixtures("_in_a_folder")
def test_good_calls_are_taken(calls):
    refused = set()
    for name, (call, given) in calls.items():
        try:
            call(**given)
        except BirilError:
            refused.add(name)
    assert refused == REFUSED


def test_an_unknown_argument_is_refused_with_the_known_ones(calls):
    for call, given in calls.values():
        with pytest.raises(ConfigError, match="has no (argument 'nonsense'|register nonsense)"):
            call(**given, nonsense=1)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_call(calls, module):
    home = importlib.import_module(module)
    public = {name for name in home.__all__ if callable(getattr(home, name))}
    missing = public - set(calls) - READ
    assert not missing, f"add calls of {sorted(missing)} to tests/support/public_calls.py"

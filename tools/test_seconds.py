"""What each test costs: a plugin for pytest that measures CPU seconds and names the tests that are marked wrongly.

    PYTHONPATH=tools python -m pytest -p test_seconds -m "not thorough"      # writes build/test-seconds.txt

CPU seconds, unlike those of the clock, are about the same beside other work. A test's are those of pytest's own process
and of the children that ended meanwhile; what a test leaves running counts for the one that ends it. Nothing fails for
being slow.
"""

import os
from pathlib import Path

import pytest

SLOW = 2.0  # CPU seconds: a test over them is to be marked slow
QUICK = 1.0  # a test under them is not
TABLE = Path(os.environ.get("TEST_SECONDS", "build/test-seconds.txt"))


def pytest_configure(config):
    """Measure where tests run; collect and report where they are started from: with xdist, another process."""
    config.pluginmanager.register(_Clock())
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Table())


def cpu_seconds():
    """Return what this process and the children that it has waited for have used up to now."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


class _Clock:
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self):
        self.began = cpu_seconds()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        if call.when == "teardown":  # the last of a test's three reports
            seconds = round(cpu_seconds() - self.began, 2)
            item.user_properties.append(("cost", (seconds, item.get_closest_marker("slow") is not None)))
        return (yield)


class _Table:
    def __init__(self):
        self.rows = []

    def pytest_runtest_logreport(self, report):
        if report.when == "teardown":
            self.rows.append((*dict(report.user_properties)["cost"], report.nodeid))

    def pytest_terminal_summary(self, terminalreporter):
        rows = sorted(self.rows, reverse=True)
        TABLE.parent.mkdir(parents=True, exist_ok=True)
        lines = (f"{seconds:7.2f} {'slow' if slow else '    '} {test}\n" for seconds, slow, test in rows)
        TABLE.write_text("".join(lines), encoding="utf-8")
        terminalreporter.section("CPU seconds")
        for line in summary(rows):
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"All tests: {TABLE}")


def summary(rows):
    """Return the lines of the report: what both kinds cost together, and the tests that are marked wrongly.

    Args:
        rows: (CPU seconds, whether marked slow, the test) of each test.
    """
    slow = [seconds for seconds, marked, _ in rows if marked]
    quick = [seconds for seconds, marked, _ in rows if not marked]
    unmarked = [f"{seconds:7.2f} {test}" for seconds, marked, test in rows if seconds > SLOW and not marked]
    # What several cases share, a fixture or a trace, is on the first one's account: the others are slow with it.
    costly = {test.partition("[")[0] for seconds, marked, test in rows if seconds > SLOW and marked}
    overmarked = [
        f"{seconds:7.2f} {test}"
        for seconds, marked, test in rows
        if seconds < QUICK and marked and test.partition("[")[0] not in costly
    ]
    return [
        f"{len(quick)} tests not marked slow: {sum(quick):.0f}; {len(slow)} marked slow: {sum(slow):.0f}",
        f"Over {SLOW:g} and not marked slow: {len(unmarked)}",
        *unmarked,
        f"Under {QUICK:g} and marked slow: {len(overmarked)}",
        *overmarked,
    ]

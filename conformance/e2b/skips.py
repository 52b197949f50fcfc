"""A plugin for pytest: passes over the tests of E2B's suite that this machine, or any machine of one's own, cannot run, and says why.

`run.py` gives the reasons in the environment (SKIPS: JSON, part of a test's name to reason).
"""

import json
import os

import pytest

REASONS = json.loads(os.environ.get("SKIPS", "{}"))


def pytest_collection_modifyitems(items):
    for item in items:
        reason = next((reason for part, reason in REASONS.items() if part in item.nodeid), None)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))

"""Every public module can do what modules can do."""

import pytest
from module_cases import CASES

import tuneful as tf
from tuneful.testing import check_module


@pytest.mark.parametrize("name", CASES)
def test_it_runs_in_every_way(name):
    case = CASES[name]()
    with tf.context(**case.settings):
        row = check_module(case.module, case.inputs, case.answers)
    assert row.failures == {}


def test_every_public_module_has_a_case():
    public = [getattr(tf, n) for n in tf.__all__]
    modules = {c.__name__ for c in public if isinstance(c, type) and issubclass(c, tf.Module)} - {"Module"}
    assert modules <= {*CASES}

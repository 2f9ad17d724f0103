"""What every module can do, as a table: `python bench/modules.py`. No model is called; the answers are given."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from tabulate import tabulate

import tuneful as tf
from tuneful.testing import check_module
from tuneful.testing.check_module import COLUMNS

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "modules"))


def main() -> None:
    from module_cases import CASES

    tf.configure(cache=False)
    rows = []
    reasons = []
    for name, make in CASES.items():
        case = make()
        with tf.context(**case.settings):
            row = check_module(case.module, case.inputs, case.answers, strict=False)
        use = (inspect.getdoc(type(case.module)) or "").splitlines()[0]
        _, calls, *cells = row.cells()
        rows.append([name, use, calls, *cells])
        reasons += [f"{name}, {column}: {reason}" for column, reason in row.failures.items()]
    print(tabulate(rows, headers=["module", "use", "calls a run", *COLUMNS], tablefmt="github"))
    print("\n".join(reasons))


if __name__ == "__main__":
    main()

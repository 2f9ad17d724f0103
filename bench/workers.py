"""Evaluations a second with 1, 2 and 4 workers: in one process, in a pool of processes, on Dask and on Ray.

    python bench/workers.py [--workers 1,2,4] [--each 40] [--wait-ms 200] [--rounds 3]

A scripted model answers after `--wait-ms`, so no number of workers can give more than workers / wait evaluations a
second; `beside` is what a rollout takes of a worker's time besides. Each worker runs one rollout at a time and gets
`--each` of them a round. A round before the first one, which is not counted, lets the workers load what they need.
`same` says whether every row has the prediction, the score and the usage that it has in one process. A table's row is
left out where the engine is not installed.
"""

import argparse
import logging
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec

import tuneful as tf
from tuneful.testing import Landscape, SimulatedLM


@contextmanager
def dask(workers: int) -> Iterator[str]:
    """Start a local Dask cluster, and yield its address."""
    from distributed import LocalCluster

    options = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    with LocalCluster(n_workers=workers, **options) as cluster:
        yield cluster.scheduler_address.replace("tcp://", "dask://")


@contextmanager
def on_ray(workers: int) -> Iterator[str]:
    """Start Ray on this machine, and yield its address."""
    import ray

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    ray.init(num_cpus=workers, log_to_driver=False, include_dashboard=False, logging_level=logging.CRITICAL)
    try:
        yield "ray"
    finally:
        ray.shutdown()


def pool(workers: int) -> ProcessPoolExecutor:
    """Return a pool of processes that share nothing with this one."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


ENGINES: dict[str, tuple[Callable[[int], AbstractContextManager], str]] = {
    "one process": (lambda _: nullcontext(), ""),
    "ProcessPoolExecutor": (pool, ""),
    "Dask": (dask, "distributed"),
    "Ray": (on_ray, "ray"),
}


def shown(result: tf.EvaluationResult) -> list[tuple]:
    return [(r.prediction, r.score, r.status, r.usage.calls, r.usage.total_tokens) for r in result.rows]


def measured(name: str, workers: int, options: argparse.Namespace) -> tuple[float, bool]:
    """Return evaluations a second, the median over rounds, and whether the results are those of one process."""
    rows = [tf.Example(question=f"q{i}", answer=f"a{i}").with_inputs("question") for i in range(workers * options.each)]
    landscape = Landscape(base=0.6)
    program = tf.Predict("question -> answer")
    metric = tf.metrics.answer_exact_match
    with tf.context(lm=SimulatedLM(rows, landscape), cache=False):
        expected = shown(tf.Evaluate(devset=rows, metric=metric)(program))
    # Those engines that do not say how many rollouts they have room for get one more than run at once, as the others.
    threads = {"one process": workers, "ProcessPoolExecutor": workers + 1}.get(name)
    evaluate = tf.Evaluate(devset=rows, metric=metric, num_threads=threads)
    seconds, same = [], True
    lm = SimulatedLM(rows, landscape, seconds=options.wait_ms / 1000)
    with ENGINES[name][0](workers) as executor, tf.context(lm=lm, cache=False, executor=executor):
        tf.Evaluate(devset=rows[: 4 * workers], metric=metric, num_threads=threads)(program)
        for _ in range(options.rounds):
            begun = time.perf_counter()
            result = evaluate(program)
            seconds.append(time.perf_counter() - begun)
            same = same and shown(result) == expected
    return len(rows) / statistics.median(seconds), same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--each", type=int, default=40)
    parser.add_argument("--wait-ms", type=float, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'':22}{'workers':>8}{'evals/s':>10}{'of ideal':>10}{'beside':>10}{'same':>6}")
    for name, (_, package) in ENGINES.items():
        if package and not find_spec(package):
            print(f"{name:22}  not installed")
            continue
        for workers in map(int, options.workers.split(",")):
            rate, same = measured(name, workers, options)
            ideal = 1000 * workers / options.wait_ms
            beside = 1000 * workers / rate - options.wait_ms
            print(f"{name:22}{workers:8}{rate:10.2f}{rate / ideal:10.1%}{beside:7.1f} ms{'yes' if same else 'NO':>6}")


if __name__ == "__main__":
    main()

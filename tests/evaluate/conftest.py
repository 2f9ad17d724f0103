"""Executors for rollouts in other processes."""

import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import cloudpickle
import pytest


class Travelling(ThreadPoolExecutor):
    """Threads, to which everything travels as to another process. Knows what was sent."""

    def __init__(self, threads=4):
        super().__init__(threads)
        self.sent = []

    def submit(self, function, *args):
        self.sent.append(args[0])
        return super().submit(_called, cloudpickle.dumps((function, args)))


def _called(data):
    function, args = pickle.loads(data)
    return pickle.loads(cloudpickle.dumps(function(*args)))


@pytest.fixture
def travelling():
    with Travelling() as executor:
        yield executor


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor

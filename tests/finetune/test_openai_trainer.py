"""Training by a service, against a server on the loopback interface that plays the files and fine-tuning API."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

import tuneful as tf
from tuneful.backends.budget import Budget, Meter
from tuneful.backends.metered import metered
from tuneful.errors import TrainingError, TrainingStopped
from tuneful.finetune.openai_trainer import OpenAITrainer
from tuneful.finetune.training_set import TrainingExample, TrainingSet
from tuneful.finetune.tuned_model import TunedModel
from tuneful.wire.messages import Tool, ToolCall, assistant, system, user

KEY = "sk-do-not-show-me-0123456789"
BASE = "openai/gpt-4o-mini-2024-07-18"
STAGES = ("validating_files", "queued", "running", "running", "succeeded")
DIES = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")


class FineTuningServer:
    """A service with files and fine-tuning jobs. A job goes on by one stage each time it is looked at.

    `end` is the status in which jobs end, `error` what failed ones tell; `before(method, path)` and `after` may give
    (status, body[, headers]), or "cut", in place of what would be said.
    """

    def __init__(self):
        self.end, self.error = "succeeded", None
        self.before = self.after = lambda method, path: None
        self.held = threading.Event()  # jobs stay at "running" while it is not set
        self.held.set()
        self.files, self.jobs, self.calls, self.headers = {}, {}, [], []
        self.lock = threading.Lock()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(5)

    def count(self, call):
        return sum(c.startswith(call) for c in self.calls)

    # --- the API ---

    def respond(self, method, path, headers, raw):
        parts, query = urlsplit(path).path.removeprefix("/v1/").split("/"), parse_qs(urlsplit(path).query)
        match method, parts:
            case "POST", ["files"]:
                return 200, self.upload(headers["content-type"], raw)
            case "POST", ["fine_tuning", "jobs"]:
                return self.create(json.loads(raw))
            case "GET", ["fine_tuning", "jobs"]:
                return 200, self.page(list(reversed(self.jobs.values())), query)
            case "GET", ["fine_tuning", "jobs", name] if name in self.jobs:
                return 200, self.looked_at(self.jobs[name])
            case "GET", ["fine_tuning", "jobs", name, "events"] if name in self.jobs:
                return 200, self.page(self.events(self.jobs[name]), query)
            case "POST", ["fine_tuning", "jobs", name, "cancel"] if name in self.jobs:
                if self.jobs[name]["status"] in ("succeeded", "failed", "cancelled"):
                    return 400, {"error": {"message": "the job is over", "type": "invalid_request_error"}}
                self.jobs[name]["status"] = "cancelled"
                return 200, self.jobs[name]
        return 404, {"error": {"message": f"nothing at {path}", "type": "invalid_request_error"}}

    def upload(self, content_type, raw):
        form = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + raw)
        fields = {p.get_param("name", header="content-disposition"): p for p in form.iter_parts()}
        assert fields["purpose"].get_content().strip() == "fine-tune"
        assert fields["file"].get_filename().endswith(".jsonl")
        name = f"file-{len(self.files)}"
        self.files[name] = fields["file"].get_payload(decode=True)
        return {"id": name, "object": "file", "purpose": "fine-tune"}

    def create(self, body):
        if body["training_file"] not in self.files:
            return 400, {"error": {"message": "no such file", "type": "invalid_request_error"}}
        name = f"ftjob-{len(self.jobs)}"
        made = {"fine_tuned_model": None, "trained_tokens": None, "error": {}, "created_at": int(time.time())}
        self.jobs[name] = {**body, **made, "id": name, "object": "fine_tuning.job", "status": STAGES[0], "stage": 0}
        return 200, self.jobs[name]

    def page(self, found, query):
        limit, after = min(3, int(query["limit"][0])), query.get("after", [None])[0]  # a server may give fewer
        start = 0 if after is None else [x["id"] for x in found].index(after) + 1
        return {"object": "list", "data": found[start : start + limit], "has_more": start + limit < len(found)}

    def looked_at(self, job):
        before = dict(job)
        if job["status"] in STAGES[:3] and (job["status"] != "running" or self.held.is_set()):
            job["stage"] += 1
            job["status"] = STAGES[job["stage"]]
            if job["status"] == "succeeded":
                job["status"] = self.end
                if self.end == "succeeded":
                    name = f"ft:{job['model']}:us:{job.get('suffix', '')}:{job['id']}"
                    job.update(fine_tuned_model=name, trained_tokens=2_000_000)
                elif self.end == "failed":
                    job["error"] = self.error
        return before

    def events(self, job):
        """The events so far, the latest first: four points for each look at a running job."""
        steps = range(1, 4 * max(0, job["stage"] - 1))
        told = [
            {
                "id": f"event-{i}",
                "object": "fine_tuning.job.event",
                "type": "metrics",
                "created_at": job["created_at"] + i,
                "data": {"step": i, "train_loss": 1 / i, **({"full_valid_loss": 2 / i} if i % 4 == 0 else {})},
            }
            for i in steps
        ]
        return [*reversed(told), {"id": "event-0", "type": "message", "message": "Created", "data": {}}]

    # --- HTTP ---

    def handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10
            disable_nagle_algorithm = True

            def do_GET(self):
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {k.lower(): v for k, v in self.headers.items()}
                with server.lock:
                    server.calls.append(f"{self.command} {urlsplit(self.path).path.removeprefix('/v1')}")
                    server.headers.append(headers)
                    found = server.before(self.command, self.path)
                    if found is None:
                        found = server.respond(self.command, self.path, headers, raw)
                        found = server.after(self.command, self.path) or found
                self.close_connection = found == "cut"
                if found != "cut":
                    content = json.dumps(found[1]).encode()
                    self.send_response(found[0])
                    for name, value in (found[2] if len(found) > 2 else {}).items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def do_POST(self):
                self.do_GET()

            def log_message(self, format, *args):
                pass

        return Handler


@pytest.fixture
def server():
    running = FineTuningServer()
    yield running
    running.close()


def examples(count=12, start=0):
    return TrainingSet(
        tuple(
            TrainingExample("answer", (system("Add."), user(f"{i}+{i}?")), str(2 * i))
            for i in range(start, start + count)
        )
    )


def trainer_at(server, **options):
    return OpenAITrainer(api_base=server.url, api_key=KEY, poll_s=0.01, longest_poll_s=0.02, **options)


def once(answer):
    """A hook that answers so for the first call that it is asked about, and then no more."""
    left = [answer]
    return lambda: left.pop() if left else None


# --- success ---


def test_a_model_is_trained_and_served(server, tmp_path):
    trainer = trainer_at(server, epochs=3, learning_rate_multiplier=0.5, suffix="mine")

    tuned = trainer.train(examples(), BASE, folder=tmp_path / "run", held_out=examples(2, 50), seed=7)

    (job,) = server.jobs.values()
    assert tuned.model == "openai/ft:gpt-4o-mini-2024-07-18:us:mine:ftjob-0"
    assert (tuned.base, tuned.folder, tuned.digest) == (BASE, str(tmp_path / "run"), "ftjob-0")
    assert (job["model"], job["seed"], job["suffix"]) == ("gpt-4o-mini-2024-07-18", 7, "mine")
    hyperparameters = {"n_epochs": 3, "learning_rate_multiplier": 0.5}
    assert job["method"] == {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    lm = tuned.lm(api_key=KEY)
    assert lm.price.output == 1.20
    assert lm.endpoint.startswith(server.url)
    assert lm.capabilities == tf.LM(BASE, api_key=KEY).capabilities


def test_what_is_uploaded_is_kept_and_says_nothing_of_paths(server, tmp_path):
    trainer_at(server).train(examples(), BASE, folder=tmp_path, held_out=examples(2, 50))

    (job,) = server.jobs.values()
    uploaded = server.files[job["training_file"]]
    assert uploaded == (tmp_path / "training.jsonl").read_bytes()
    assert server.files[job["validation_file"]] == (tmp_path / "validation.jsonl").read_bytes()
    first = json.loads(uploaded.splitlines()[0])
    assert list(first) == ["messages"]
    assert [m["role"] for m in first["messages"]] == ["system", "user", "assistant"]
    assert "method" not in job
    assert KEY not in "".join(p.read_text(encoding="utf-8") for p in tmp_path.iterdir())


def test_tools_are_uploaded_as_tools(server, tmp_path):
    tool = Tool("search", "Finds.", '{"type": "object"}')
    call = TrainingExample(
        "a", (user("?"), assistant("earlier"), user("!")), "", (tool,), (ToolCall("c1", "search", "{}"),)
    )

    trainer_at(server).train(examples() + TrainingSet((call,)), BASE, folder=tmp_path)

    last = json.loads(server.files["file-0"].splitlines()[-1])
    assert last["messages"][1] == {"role": "assistant", "content": "earlier", "weight": 0}
    assert last["messages"][-1]["tool_calls"][0]["function"]["name"] == "search"
    assert last["tools"][0]["function"]["name"] == "search"


def test_the_history_is_that_of_the_events(server, tmp_path):
    told = []

    tuned = trainer_at(server).train(examples(), BASE, folder=tmp_path, progress=told.append)

    assert [p.step for p in tuned.history] == list(range(1, 12))
    assert told == list(tuned.history)
    assert tuned.history[3].loss == 0.25
    assert [p.held_out_loss for p in tuned.history if p.held_out_loss is not None] == [0.5, 0.25]
    assert tuned.history[4].seconds == 5.0


def test_what_it_cost_is_noted_and_charged(server, tmp_path):
    with metered(Meter()) as meter:
        tuned = trainer_at(server).train(examples(), BASE, folder=tmp_path)

    told = {"job": "ftjob-0", "api_base": server.url, "trained_tokens": 2_000_000, "cost_usd": 6.0}
    assert dict(tuned.notes) == told
    assert meter.usage.cost_usd == 6.0
    assert meter.usage.total_tokens == 2_000_000
    assert meter.usage.calls == 0
    assert TunedModel.from_json(json.loads(json.dumps(tuned.to_json()))) == tuned


@pytest.mark.parametrize(
    ("base", "own", "price"),
    [
        ("openai/gpt-4.1-mini-2025-04-14", None, 5.0),
        ("openai/ft:gpt-4.1-nano-2025-04-14:us::Ab1", None, 1.5),
        ("openai/gpt-77", None, None),
        ("openai/gpt-77", 2.5, 2.5),
    ],
)
def test_prices(base, own, price):
    assert OpenAITrainer(price_per_million=own).price_of(base) == price


def test_what_has_been_trained_is_not_trained_again(server, tmp_path):
    first = trainer_at(server).train(examples(), BASE, folder=tmp_path)
    calls = len(server.calls)

    assert trainer_at(server).train(examples(), BASE, folder=tmp_path) == first
    assert len(server.calls) == calls


def test_a_service_without_events_trains_all_the_same(server, tmp_path, caplog):
    server.before = lambda method, path: (404, {"error": {"message": "no events"}}) if "events" in path else None

    with caplog.at_level(logging.WARNING, "tuneful"):
        tuned = trainer_at(server).train(examples(), BASE, folder=tmp_path)

    assert tuned.history == ()
    assert caplog.text.count("no history") == 1


# --- failure ---


def test_data_that_does_not_pass_validation(server, tmp_path):
    server.end = "failed"
    server.error = {"code": "invalid_training_file", "message": f"line 3 is odd {KEY}", "param": "training_file"}

    with pytest.raises(TrainingError, match=r"line 3 is odd \[API key\] \(in the training file\)") as caught:
        trainer_at(server).train(examples(), BASE, folder=tmp_path)

    assert caught.value.folder == str(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert KEY not in str(caught.value)
    assert (tmp_path / "training.jsonl").exists()
    assert TrainingSet.load(tmp_path / "training.jsonl").examples[0].completion == "0"


def test_a_job_that_failed_is_begun_anew_by_the_next_call(server, tmp_path):
    server.end, server.error = "failed", {"code": "server_error", "message": "out of machines", "param": None}
    with pytest.raises(TrainingError, match=r"ftjob-0, which trained .* failed: out of machines"):
        trainer_at(server).train(examples(), BASE, folder=tmp_path)
    server.end = "succeeded"

    tuned = trainer_at(server).train(examples(), BASE, folder=tmp_path)

    assert tuned.digest == "ftjob-1"
    names = [job["metadata"]["tuneful"] for job in server.jobs.values()]
    assert len(set(names)) == 2
    assert "out of machines" in (tmp_path / "job.json").read_text(encoding="utf-8")


def test_a_job_without_a_model_is_an_error(server, tmp_path):
    server.after = lambda method, path: (
        (200, {"id": "ftjob-0", "status": "succeeded", "fine_tuned_model": None})
        if method == "GET" and path.endswith("ftjob-0")
        else None
    )

    with pytest.raises(TrainingError, match="ended without a model"):
        trainer_at(server).train(examples(), BASE, folder=tmp_path)


def test_a_refused_file_and_a_refused_key(server, tmp_path):
    server.before = lambda method, path: (400, {"error": {"message": "too large"}}) if path.endswith("files") else None
    with pytest.raises(tf.LMInvalidRequestError, match="too large") as caught:
        trainer_at(server).train(examples(), BASE, folder=tmp_path)
    assert str(tmp_path) in caught.value.__notes__[0]

    server.before = lambda method, path: (401, {"error": {"message": f"bad key {KEY}"}})
    with pytest.raises(tf.LMAuthError, match=r"bad key \[API key\]"):
        trainer_at(server).train(examples(), BASE, folder=tmp_path)
    assert server.jobs == {}


def test_a_server_that_is_none_of_this_kind(server, tmp_path):
    server.before = lambda method, path: (200, ["hello"])
    with pytest.raises(tf.LMServerError, match="fine-tuning API"):
        trainer_at(server).train(examples(), BASE, folder=tmp_path)


# --- what passes ---


def test_rate_limits_and_broken_connections_are_waited_out(server, tmp_path):
    busy = (429, {"error": {"message": "slow down"}}, {"retry-after-ms": "30"})
    upload, create, look, events = (once(x) for x in (busy, busy, (503, {"error": "down"}), "cut"))

    def before(method, path):
        if path.endswith("/files"):
            return upload()
        if method == "POST":
            return create()
        return events() if "events" in path else look()

    server.before = before

    tuned = trainer_at(server).train(examples(), BASE, folder=tmp_path)

    assert tuned.digest == "ftjob-0"
    assert len(server.jobs) == 1
    assert len(tuned.history) == 11
    assert server.count("POST /files") == 2


def test_a_service_that_stays_busy_is_given_up_and_asked_again_by_the_next_call(server, tmp_path):
    busy = (429, {"error": {"message": "too many jobs"}})
    server.before = lambda method, path: busy if method == "POST" and path.endswith("jobs") else None
    with pytest.raises(tf.LMRateLimitError, match="too many jobs"):
        trainer_at(server).train(examples(), BASE, folder=tmp_path)
    assert server.jobs == {}
    server.before = lambda method, path: None

    assert trainer_at(server).train(examples(), BASE, folder=tmp_path).digest == "ftjob-0"
    assert server.count("POST /files") == 1  # it was there already


@pytest.mark.parametrize("how", ["cut", (500, {"error": "lost"})])
def test_a_job_whose_beginning_was_not_heard_of_is_not_begun_twice(server, tmp_path, how):
    lost = once(how)
    server.after = lambda method, path: lost() if method == "POST" and path.endswith("jobs") else None
    for _ in range(5):  # jobs of others
        server.create({"training_file": server_file(server), "model": "other", "metadata": None})

    tuned = trainer_at(server).train(examples(), BASE, folder=tmp_path)

    assert tuned.digest == "ftjob-5"
    assert len(server.jobs) == 6


def server_file(server):
    server.files.setdefault("file-of-others", b"")
    return "file-of-others"


# --- stopping, cancelling, going on ---


def test_a_training_that_is_stopped_goes_on_with_the_same_job(server, tmp_path):
    server.held.clear()
    seen = []

    def stop():
        seen.append(1)
        return server.count("GET /fine_tuning/jobs/ftjob-0") > 4

    with pytest.raises(TrainingStopped, match="ftjob-0 goes on") as caught:
        trainer_at(server).train(examples(), BASE, folder=tmp_path, stop=stop)
    assert caught.value.folder == str(tmp_path)
    assert server.jobs["ftjob-0"]["status"] == "running"
    server.held.set()

    tuned = trainer_at(server).train(examples(), BASE, folder=tmp_path, stop=lambda: False)

    assert tuned.digest == "ftjob-0"
    assert [p.step for p in tuned.history] == list(range(1, 12))
    assert (server.count("POST /files"), len(server.jobs)) == (1, 1)


def test_stopped_before_anything_was_begun(server, tmp_path):
    with pytest.raises(TrainingStopped, match="goes on from there"):
        trainer_at(server).train(examples(), BASE, folder=tmp_path, stop=lambda: True)
    assert server.calls == []


def test_a_job_can_be_cancelled_and_begun_anew(server, tmp_path):
    server.held.clear()
    trainer = trainer_at(server)
    with pytest.raises(TrainingStopped):
        trainer.train(examples(), BASE, folder=tmp_path, stop=lambda: server.count("GET /fine_tuning/jobs/ftjob-0") > 4)

    assert trainer.cancel(tmp_path) == "cancelled"
    assert server.jobs["ftjob-0"]["status"] == "cancelled"
    with pytest.raises(tf.StateError, match="no job that goes on"):
        trainer.cancel(tmp_path)
    server.held.set()
    assert trainer.train(examples(), BASE, folder=tmp_path).digest == "ftjob-1"


def test_a_job_that_is_cancelled_elsewhere_ends_the_training(server, tmp_path):
    server.end = "cancelled"
    with pytest.raises(TrainingError, match="was cancelled"):
        trainer_at(server).train(examples(), BASE, folder=tmp_path)


def test_a_job_that_the_service_forgot(server, tmp_path):
    with pytest.raises(TrainingStopped):
        trainer_at(server).train(examples(), BASE, folder=tmp_path, stop=lambda: bool(server.jobs))
    server.jobs.clear()
    with pytest.raises(tf.LMInvalidRequestError, match="nothing at"):
        trainer_at(server).train(examples(), BASE, folder=tmp_path)

    assert trainer_at(server).train(examples(), BASE, folder=tmp_path).digest == "ftjob-0"


KILLED = """
import sys
from tests_of_trainer import BASE, KEY, examples
from tuneful.finetune.openai_trainer import OpenAITrainer
OpenAITrainer(api_base=sys.argv[1], api_key=KEY, poll_s=0.01).train(examples(), BASE, folder=sys.argv[2])
"""


def killed_when(server, tmp_path, moment):
    """Train in a process of its own, and kill it at a moment."""
    (tmp_path / "tests_of_trainer.py").write_text(
        "from tuneful.finetune.training_set import TrainingExample, TrainingSet\n"
        "from tuneful.wire.messages import system, user\n"
        f"KEY, BASE = {KEY!r}, {BASE!r}\n"
        "def examples(count=12, start=0):\n"
        "    return TrainingSet(tuple(TrainingExample('answer', (system('Add.'), user(f'{i}+{i}?')), str(2 * i))"
        " for i in range(start, start + count)))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, server.url, str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stderr=subprocess.PIPE,
    )
    try:
        for _ in range(1500):
            if moment() or process.poll() is not None:
                break
            time.sleep(0.02)
        assert process.poll() is None, process.stderr.read()
    finally:
        process.kill()
        process.communicate()


@DIES
def test_killed_while_waiting_it_waits_for_the_same_job(server, tmp_path):
    server.held.clear()
    killed_when(server, tmp_path, lambda: server.count("GET /fine_tuning/jobs/ftjob-0") > 3)
    server.held.set()

    tuned = trainer_at(server).train(examples(), BASE, folder=tmp_path / "run")

    assert tuned.digest == "ftjob-0"
    assert (server.count("POST /files"), len(server.jobs)) == (1, 1)


@DIES
def test_killed_just_after_the_job_was_begun_it_finds_it_again(server, tmp_path):
    reached, release = threading.Event(), threading.Event()

    def after(method, path):
        if method == "POST" and path.endswith("jobs"):
            reached.set()
            server.lock.release()
            release.wait(30)
            server.lock.acquire()
        return

    server.after = after
    killed_when(server, tmp_path, reached.is_set)
    release.set()
    server.after = lambda method, path: None

    tuned = trainer_at(server).train(examples(), BASE, folder=tmp_path / "run")

    assert tuned.digest == "ftjob-0"
    assert (server.count("POST /fine_tuning/jobs"), len(server.jobs)) == (1, 1)


def test_two_calls_at_once_pay_for_one_job(server, tmp_path):
    server.held.clear()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(lambda: trainer_at(server).train(examples(), BASE, folder=tmp_path))
        while not server.jobs:
            time.sleep(0.01)
        with pytest.raises(tf.StateError, match="a training goes on in"):
            trainer_at(server).train(examples(), BASE, folder=tmp_path)
        server.held.set()
        tuned = first.result(30)

    assert trainer_at(server).train(examples(), BASE, folder=tmp_path) == tuned
    assert len(server.jobs) == 1


# --- bad input ---


def test_a_folder_of_another_training_is_refused(server, tmp_path):
    trainer_at(server).train(examples(), BASE, folder=tmp_path)

    with pytest.raises(tf.StateError, match="another training: data, settings, seed differ"):
        trainer_at(server, epochs=2).train(examples(20), BASE, folder=tmp_path, seed=1)
    assert len(server.jobs) == 1


def test_a_folder_with_a_broken_record(server, tmp_path):
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(tf.StateError, match="no record of a job"):
        trainer_at(server).train(examples(), BASE, folder=tmp_path)


@pytest.mark.parametrize(
    ("dataset", "base", "error", "said"),
    [
        (TrainingSet((), {"parse error": 3}), BASE, tf.DataError, "parse error 3"),
        (examples(9), BASE, tf.DataError, "no fewer than 10 examples, and there are 9"),
        (examples(), "local/smollm2", tf.UsageError, "LocalTrainer"),
        (examples(), "gpt-4o", tf.UsageError, "openai/"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_sent(server, tmp_path, dataset, base, error, said):
    with pytest.raises(error, match=said):
        trainer_at(server).train(dataset, base, folder=tmp_path / "run")
    assert server.calls == []


def test_a_missing_key_is_told_before_anything_is_sent(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(tf.LMAuthError, match="OPENAI_API_KEY"):
        OpenAITrainer().check(BASE)


@pytest.mark.parametrize(
    ("budget", "base", "error"),
    [
        (Budget(usd=1), "openai/gpt-77", tf.NotConfiguredError),
        (Budget(tokens=0), BASE, tf.BudgetExceeded),
        (Budget(seconds=0), BASE, tf.BudgetExceeded),
    ],
)
def test_a_budget_that_does_not_let_a_job_begin(server, tmp_path, budget, base, error):
    with metered(Meter(budget)), pytest.raises(error):
        trainer_at(server).train(examples(), base, folder=tmp_path)
    assert server.calls == []


@pytest.mark.parametrize(
    "options",
    [{"epochs": 0}, {"epochs": 1.5}, {"batch_size": True}, {"learning_rate_multiplier": -1}, {"suffix": "x" * 65},
     {"poll_s": 0}, {"poll_s": "auto"}, {"price_per_million": -1}, {"epochs": "all"}],
)  # fmt: skip
def test_settings_that_make_no_sense(options):
    with pytest.raises(tf.UsageError, match=next(iter(options))):
        OpenAITrainer(**options)


def test_the_settings_are_json_and_hold_no_key():
    trainer = OpenAITrainer(epochs=2, api_key=KEY, api_base="https://tuning.example/v1")

    assert json.loads(json.dumps(trainer.settings())) == trainer.settings()
    assert trainer.settings()["n_epochs"] == 2
    assert trainer.settings() != OpenAITrainer(epochs=3).settings()
    assert KEY not in json.dumps(trainer.settings()) + repr(trainer)

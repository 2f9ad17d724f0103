"""LoRAs on a server, against one on the loopback interface that plays vLLM or SGLang."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import tuneful as tf
from tuneful.finetune import TunedModel, host_lora


class Server:
    """Loads adapters by `route`, and answers with the name of the model that it was asked for."""

    def __init__(self, route):
        self.route, self.loaded, self.keys, self.refusal = route, {}, [], None
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
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

    def _handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def say(self, status, body):
                data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                self.say(200, {"data": [{"id": name} for name in ("base", *server.loaded)]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.keys.append(self.headers["Authorization"])
                if self.path == server.route:
                    self.load(body["lora_name"], body["lora_path"])
                elif self.path == "/v1/chat/completions":
                    answer = {"role": "assistant", "content": f"[[ ## answer ## ]] {body['model']}"}
                    self.say(200, {"choices": [{"message": answer, "finish_reason": "stop"}], "usage": {}})
                else:
                    self.say(404, {"detail": "Not Found"})

            def load(self, name, path):
                if server.refusal or name in server.loaded:
                    message = server.refusal or f"The lora adapter '{name}' has already been loaded."
                    self.say(400, {"error": {"message": message, "type": "BadRequestError", "code": 400}})
                    return
                server.loaded[name] = path
                self.say(200, f"Success: LoRA adapter '{name}' added successfully.")

        return Handler


@pytest.fixture
def server(request):
    found = Server(getattr(request, "param", "/v1/load_lora_adapter"))
    yield found
    found.close()


@pytest.fixture
def tuned(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "adapter_config.json").write_text("{}")
    return TunedModel(
        f"transformers/{tmp_path}/model", "transformers/base", folder=str(tmp_path), digest="0123456789ab"
    )


def test_vllm_loads_the_lora_and_serves_it_under_name_and_digest(server, tuned, tmp_path):
    lm = host_lora(tuned, "vllm/sort", api_base=server.url, api_key="key", max_tokens=9)

    assert server.loaded == {"sort-01234567": str(tmp_path / "model")}
    assert tf.Predict("question -> answer").using(lm=lm)(question="q").answer == "sort-01234567"
    assert lm.sampling.max_tokens == 9
    assert set(server.keys) == {"Bearer key"}


@pytest.mark.parametrize("server", ["/load_lora_adapter"], indirect=True)
def test_sglang_serves_it_beside_the_name_of_the_base(server, tuned):
    lm = host_lora(tuned, "sglang/org/base:sort", api_base=server.url, path="/there/model")

    assert server.loaded == {"sort-01234567": "/there/model"}
    assert tf.Predict("question -> answer").using(lm=lm)(question="q").answer == "org/base:sort-01234567"


def test_one_that_is_loaded_already_is_used(server, tuned):
    host_lora(tuned, "vllm/sort", api_base=server.url)

    assert host_lora(tuned, "vllm/sort", api_base=server.url).model == "vllm/sort-01234567"


def test_a_refusal_says_what_was_asked(server, tuned, tmp_path):
    server.refusal = "LoRA rank 64 is greater than max_lora_rank 16."

    with pytest.raises(tf.LMInvalidRequestError, match="rank 64") as caught:
        host_lora(tuned, "vllm/sort", api_base=server.url)
    assert str(tmp_path / "model") in caught.value.__notes__[0]


@pytest.mark.parametrize("server", ["/elsewhere"], indirect=True)
@pytest.mark.parametrize(("model", "flag"), [("vllm/sort", "VLLM_ALLOW_RUNTIME"), ("sglang/b:sort", "sglang.launch")])
def test_a_server_that_loads_none_says_how_to_start_it(server, tuned, model, flag):
    with pytest.raises(tf.NotConfiguredError, match=flag):
        host_lora(tuned, model, api_base=server.url)


@pytest.mark.parametrize("model", ["openai/sort", "vllm", "vllm/", "sglang/sort"])
def test_a_name_of_another_kind_is_refused(tuned, model):
    with pytest.raises(tf.UsageError, match="names no adapter"):
        host_lora(tuned, model)


def test_a_model_without_a_lora_says_how_it_is_served(tmp_path):
    with pytest.raises(tf.UsageError, match="vllm serve FOLDER"):
        host_lora(TunedModel("transformers/x", "transformers/base", folder=str(tmp_path)), "vllm/sort")

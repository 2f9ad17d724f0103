"""Which backend a model's name picks."""

import subprocess
import sys

import pytest

import tuneful as tf
from tuneful.backends.http.backend import HTTPBackend
from tuneful.backends.http.providers import PROVIDERS
from tuneful.backends.registry import create


def made(model, api_base=None, api_key=None, **options):
    return create(model, api_base=api_base, api_key=api_key, options=options)


@pytest.mark.parametrize("prefix", list(PROVIDERS))
def test_each_prefix_leads_to_its_provider(prefix, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com")
    backend = made(f"{prefix}/some-model")
    assert isinstance(backend, HTTPBackend)
    assert backend.endpoint == f"{PROVIDERS[prefix].base_url or 'https://mine.openai.azure.com/openai/v1'}#some-model"
    assert backend.capabilities == PROVIDERS[prefix].capabilities


def test_a_model_name_may_hold_slashes():
    assert made("together/meta/llama-3").endpoint.endswith("#meta/llama-3")


def test_with_an_address_any_name_will_do():
    backend = made("my-org/my-model", api_base="http://127.0.0.1:9/v1/")
    assert backend.endpoint == "http://127.0.0.1:9/v1#my-org/my-model"


def test_an_address_replaces_that_of_the_provider():
    assert made("openai/m", api_base="http://127.0.0.1:9/v1").endpoint == "http://127.0.0.1:9/v1#m"


def test_an_unknown_provider_is_told_the_nearest():
    with pytest.raises(tf.UsageError, match=r"Did you mean `openai`.*api_base"):
        made("opnai/gpt-4o-mini")


@pytest.mark.parametrize("name", ["gpt-4o-mini", "openai", "local", ""])
def test_a_name_without_a_provider_is_a_usage_error_that_lists_them(name):
    with pytest.raises(tf.UsageError, match=r"`provider/model`.*local, openai"):
        made(name)


@pytest.mark.parametrize("model", ["openai/m", "local/smollm2"])
def test_an_unknown_option_is_a_usage_error(model, monkeypatch, tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    model = f"local/{file}" if model.startswith("local") else model
    with pytest.raises(tf.UsageError, match="timeout"):
        tf.LM(model, timeout=3)


def test_a_model_that_is_no_text_is_a_usage_error():
    with pytest.raises(tf.UsageError, match="name"):
        tf.LM(None)


def test_a_local_model_does_not_load_the_http_client(tmp_path):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    code = f"import sys, tuneful as tf; tf.LM('local/{file}'); sys.exit(any('aiohttp' in m for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_an_address_with_a_password_in_it_is_refused_and_not_quoted():
    with pytest.raises(tf.UsageError, match="headers=") as caught:
        made("openai/m", api_base="http://me:s3cret@127.0.0.1:9/v1")
    assert "s3cret" not in str(caught.value)

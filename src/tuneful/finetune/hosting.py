"""host_lora: a tuned LoRA on a vLLM or SGLang server that holds its base model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneful.errors import LMError, LMInvalidRequestError, NotConfiguredError, UsageError
from tuneful.finetune.tuned_model import TunedModel
from tuneful.program.lm import LM
from tuneful.program.running.portal import portal

if TYPE_CHECKING:
    from tuneful.backends.http.backend import HTTPBackend

#: Where each server loads adapters, beside or below its `/v1`, and what it must be started with.
_ROUTES = {"vllm": "/v1/load_lora_adapter", "sglang": "/load_lora_adapter"}
_FLAGS = {
    "vllm": "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve BASE --enable-lora --max-lora-rank RANK",
    "sglang": "python -m sglang.launch_server --model-path BASE --enable-lora --max-lora-rank RANK "
    "--lora-target-modules all",
}
_LOAD_S = 600.0


def host_lora(
    tuned: TunedModel,
    model: str,
    *,
    api_base: str | None = None,
    api_key: str | None = None,
    path: str | Path | None = None,
    **options: Any,
) -> LM:
    """Have a vLLM or SGLang server load the LoRA of a tuned model, and return it as an LM.

    The adapter is loaded under its name and the beginning of its digest: other weights are another model, to caches and
    journals too. One that is there already is used. Use it for much traffic on a GPU; for a model whose weights were
    all trained start the server with the folder itself.

    Args:
        tuned: what a `LocalTrainer` made with a LoRA, over the base that the server holds.
        model: "vllm/NAME", or "sglang/BASE:NAME", NAME being any name for the adapter.
        api_base: address of the server, up to and including `/v1`; by default this machine's.
        api_key: its key, where it has one.
        path: where the server finds the adapter's folder; by default where it is here.
        options: further options of `tf.LM`.

    Raises:
        UsageError: no LoRA, or a name of another kind. Nothing was sent.
        NotConfiguredError: the server does not load adapters; says how to start it.
        LMError: it cannot be reached, or refuses this one.

    Cost: no model call.
    """
    provider, _, given = model.partition("/")
    base, colon, name = given.rpartition(":")
    if provider not in _ROUTES or not name or (provider == "sglang" and not base):
        raise UsageError(f"`{model}` names no adapter of a server; expected 'vllm/NAME' or 'sglang/BASE:NAME'.")
    folder = Path(tuned.folder) / "model"
    if not tuned.folder or not (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"`{tuned.model}` is no LoRA of a LocalTrainer that lies here: {str(folder)!r} has no adapter_config.json. "
            "Where all weights were trained, start the server with the folder: `vllm serve FOLDER/model`, and ask "
            "tf.LM('vllm/FOLDER/model'). Nothing was sent."
        )
    known = f"{name}-{tuned.digest[:8]}"
    served = f"{base}{colon}{known}"
    portal.run(_load(provider, known, served, str(path or folder), api_base, api_key))
    return LM(f"{provider}/{served}", api_base=api_base, api_key=api_key, **options)


async def _load(provider: str, name: str, served: str, path: str, api_base: str | None, api_key: str | None) -> None:
    from tuneful.backends.http.backend import HTTPBackend  # few programs have a server of their own

    backend = HTTPBackend(served, provider=provider, api_base=api_base, api_key=api_key, timeout_s=_LOAD_S)
    try:
        url = backend.base_url.removesuffix("/").removesuffix("/v1") + _ROUTES[provider]
        reply = await backend.transport.post_json(
            url, {"lora_name": name, "lora_path": path}, backend.request_headers()
        )
        if reply.status in (404, 405):
            raise NotConfiguredError(
                f"the server at {backend.base_url} loads no adapters ({reply.status}). Start it so, RANK being at "
                f"least the LoRA's: {_FLAGS[provider]}"
            )
        try:
            if reply.status >= 300:
                backend.json_of(reply)  # raises what the status means
        except LMInvalidRequestError as error:
            if name not in await _names(backend):
                error.add_note(f"It was asked to load {path!r}, which must be a path of the server's: see `path`.")
                raise
    finally:
        await backend.aclose()


async def _names(backend: HTTPBackend) -> set[str]:
    """Return the adapters that the server has, as far as it tells."""
    try:
        reply = await backend.transport.get(f"{backend.base_url}/models", backend.request_headers())
        return {str(model["id"]).rpartition(":")[2] for model in backend.json_of(reply)["data"]}
    except (LMError, KeyError, TypeError):
        return set()

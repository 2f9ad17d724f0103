"""Static embeddings, from a small model made here and, where it is installed, from the real one."""

import importlib.util
import sys

import pytest

import tuneful as tf
from tuneful.backends.embed import static as static_embedding
from tuneful.backends.embed.static import StaticEmbeddings

np = pytest.importorskip("numpy")
tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("safetensors")

WORDS = ["[UNK]", "cat", "dog", "tax"]
WEIGHTS = [[0, 0, 0], [3, 4, 0], [4, 3, 0], [0, 0, 2]]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that holds a model of three words, in place of the real one; importing it fails."""
    from safetensors.numpy import save_file
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    folder = tmp_path / "wordllama"
    for part in ("weights", "tokenizers"):
        (folder / part).mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('this package must not be imported')")
    save_file({"embedding.weight": np.array(WEIGHTS, np.float16)}, folder / "weights" / "tiny.safetensors")
    tokenizer = tokenizers.Tokenizer(WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token=WORDS[0]))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizers" / "tiny.json"))
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [n for n in sys.modules if n.partition(".")[0] == "wordllama"]:
        monkeypatch.delitem(sys.modules, name)
    return folder


async def embedded(*texts, **options):
    vectors = await StaticEmbeddings(**options).embed(texts)
    return np.array([np.frombuffer(row, "<f4") for row in vectors.rows]), vectors


async def test_a_vector_is_the_mean_of_the_tokens_scaled_to_one_and_the_package_is_not_imported(package):
    rows, vectors = await embedded("cat", "cat dog", "tax")
    assert rows == pytest.approx(np.array([[0.6, 0.8, 0], [0.5**0.5, 0.5**0.5, 0], [0, 0, 1]]), abs=1e-6)
    assert "wordllama" not in sys.modules
    assert vectors.usage.prompt_tokens == 4


async def test_a_text_without_tokens_has_a_vector_of_zeros(package):
    rows, _ = await embedded("", "cat")
    assert rows[0].tolist() == [0, 0, 0]


async def test_fewer_dimensions_are_the_first_ones_scaled_anew(package):
    rows, _ = await embedded("cat", dimensions=1)
    assert rows.tolist() == [[1.0]]
    assert StaticEmbeddings(dimensions=1).endpoint != StaticEmbeddings().endpoint


def test_more_dimensions_than_there_are_is_an_error_before_any_call(package):
    with pytest.raises(tf.UsageError, match="up to 3 numbers, not 4"):
        StaticEmbeddings(dimensions=4)


def hidden(monkeypatch, name):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(static_embedding.importlib.util, "find_spec", lambda n, *r: None if n == name else find_spec(n))


def test_without_the_package_the_error_holds_the_command(monkeypatch):
    hidden(monkeypatch, "wordllama")
    with pytest.raises(tf.NotConfiguredError, match="pip install --no-deps wordllama"):
        StaticEmbeddings()


def test_without_a_library_the_error_names_the_extra(package, monkeypatch):
    hidden(monkeypatch, "tokenizers")
    with pytest.raises(tf.MissingExtraError, match=r"tuneful\[dense\]"):
        StaticEmbeddings()


def test_a_package_without_the_files_is_not_installed(package):
    for file in package.glob("*/*.json"):
        file.unlink()
    with pytest.raises(tf.NotConfiguredError):
        StaticEmbeddings()


@pytest.mark.skipif(importlib.util.find_spec("wordllama") is None, reason="wordllama is not installed")
async def test_the_real_model_knows_what_is_alike():
    rows, _ = await embedded("how to cook rice", "a recipe for boiled rice", "the stock market fell today")
    assert rows.shape == (3, 256)
    assert rows[0] @ rows[1] > 0.5 > rows[0] @ rows[2]

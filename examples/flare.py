"""FLARE: write an answer sentence by sentence, and search whenever the coming sentence is uncertain.

    python examples/flare.py [--model local/smollm2] [--data FOLDER] [--rows 3] [--ask]

The next sentence is written without any passage. Where one of its tokens is improbable, the words that the model was
sure of are the query, and the sentence is written again with what was found. The token log-probabilities come with the
answer: the embedded model, OpenAI and compatible servers and Gemini give them. Elsewhere (Anthropic) `--ask` has a
tunable predictor say whether a sentence is certain. A model of 135M parameters plays the part.

FOLDER holds `hotpotqa/corpus.jsonl` (pid, title, text) and `hotpotqa/dev.jsonl` (question, answer); without it a
handful of rows below is used.

Source: Jiang et al. (2023), "Active Retrieval Augmented Generation", section 3.2 (FLARE direct, with masked sentences
as queries). Deviations: the question is part of the query, and an answer ends after a fixed number of sentences, or
with an empty or repeated one.
"""

import argparse
import json
import math
import re
from pathlib import Path

import tuneful as tf

CORPUS = [
    "The lighthouse of Lindesnes is the southernmost one of Norway. It was first lit in 1656.",
    "The lighthouse of Skagen stands at the north end of Jutland, in Denmark.",
    "The Tower of Hercules in La Coruna is a Roman lighthouse that is still in use.",
    "The lighthouse of Genoa is called La Lanterna. It is 77 metres high.",
]
QUESTIONS = {
    "When was the lighthouse of Lindesnes first lit?": "1656",
    "How high is the lighthouse of Genoa?": "77 metres",
    "Where does the lighthouse of Skagen stand?": "Jutland",
}


class NextSentence(tf.Signature):
    """Write the next sentence of an answer to the question."""

    context: list[str] = tf.InputField(desc="passages that may hold facts")
    question: str = tf.InputField()
    so_far: str = tf.InputField(desc="the answer so far")
    sentence: str = tf.OutputField()


class Certain(tf.Signature):
    """Say whether the sentence is certainly true as it stands."""

    question: str = tf.InputField()
    sentence: str = tf.InputField()
    certain: bool = tf.OutputField()


class FLARE(tf.Module):
    def __init__(self, sentences=2, *, logprobs=True):
        self.sentences = tf.Integer(1, 8, default=sentences)
        self.least = tf.Real(0.0, 1.0, default=0.4)  # a sentence with a less probable token is uncertain
        self.kept = tf.Real(0.0, 1.0, default=0.4)  # tokens below are no part of the query
        self.k = tf.Choice([1, 2, 3], default=2)
        self.retrieve = tf.Retrieve()
        self.write = tf.Predict(NextSentence, max_tokens=48, stop="\n", logprobs=logprobs)
        self.certain = tf.Predict(Certain)

    def forward(self, question):
        written, context = [], []
        for _ in range(self.sentences):
            so_far = " ".join(written)
            sentence, tokens = first_sentence(self.write(context=[], question=question, so_far=so_far))
            if not self.is_certain(question, sentence, tokens):
                query = " ".join([question, *sure_words(sentence, tokens, self.kept)])
                found = self.retrieve(query, k=self.k).passages
                context += found
                sentence, _ = first_sentence(self.write(context=found, question=question, so_far=so_far))
            if not sentence or sentence in written:
                break
            written.append(sentence)
        return tf.Prediction(answer=" ".join(written), context=list(dict.fromkeys(context)))

    def is_certain(self, question, sentence, tokens):
        if tokens is None:  # the model gives no log-probabilities
            return self.certain(question=question, sentence=sentence).certain
        return all(math.exp(logprob) >= self.least for _, logprob in tokens)


def first_sentence(prediction):
    """Return the first sentence of what was written, and the log-probabilities of its tokens, or None."""
    sentence = re.split(r"(?<=[.!?])\s", prediction.sentence.strip(), maxsplit=1)[0]
    if prediction.logprobs is None:
        return sentence, None
    tokens, length = [], 0
    for token, logprob in prediction.logprobs:
        if length >= len(sentence):
            break
        tokens.append((token, logprob))
        length += len(token)
    return sentence, tokens


def sure_words(sentence, tokens, least):
    """Return the words of a sentence that the model was sure of: what is doubtful would mislead the search."""
    if tokens is None:
        return sentence.split()
    marked = "".join(token if math.exp(logprob) >= least else f"{token}\0" for token, logprob in tokens)
    return [word for word in marked.split() if "\0" not in word]


def answered(example, prediction, trace=None):
    """Say whether the text holds the answer."""
    return tf.metrics.normalize_text(example.answer) in tf.metrics.normalize_text(prediction.answer)


def load(folder):
    """Return a corpus, and rows with `question` and `answer`."""
    if folder is None:
        corpus, found = CORPUS, [{"question": question, "answer": answer} for question, answer in QUESTIONS.items()]
    else:
        corpus, found = (lines(Path(folder, "hotpotqa", name)) for name in ("corpus.jsonl", "dev.jsonl"))
    return corpus, [tf.Example(row).with_inputs("question") for row in found]


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="local/smollm2")
    parser.add_argument("--data")
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument(
        "--ask", action="store_true", help="ask whether a sentence is certain, without log-probabilities"
    )
    options = parser.parse_args()

    corpus, rows = load(options.data)
    tf.configure(lm=tf.LM(options.model), rm=tf.BM25(corpus))
    result = tf.Evaluate(devset=rows[: options.rows], metric=answered)(FLARE(logprobs=not options.ask))
    print(result)
    for row in result.rows:
        print(f"\n{row.example.question} (wanted: {row.example.answer})")
        for search in row.trace.retrievals:
            print(f"  uncertain; searched {search.query!r}: {len(search.passages)} passages")
        print(f"  {row.prediction.answer if row.prediction else row.error}")


if __name__ == "__main__":
    main()

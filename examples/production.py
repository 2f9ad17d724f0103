"""A program as a service runs it: limits, a cache that replays, a budget, and answers that are heard while they come.

    python examples/production.py [MODEL]

MODEL is any name that `tf.LM` takes; by default the embedded model.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

import tuneful as tf


class Reply(tf.Module):
    def __init__(self):
        self.topic = tf.Predict("message -> topic: Literal['delivery', 'payment', 'returns']")
        self.reply = tf.Predict("message, topic -> reply", max_tokens=200, stop="\n")

    async def forward(self, message):
        topic = (await self.topic.acall(message=message)).topic
        return await self.reply.acall(message=message, topic=topic)


MESSAGES = ["Where is my parcel? It is a week late.", "I was charged twice for one order.", "The shoes are too small."]


async def serve(program):
    """Answer all messages side by side, each piece as it comes."""

    async def answer(message):
        pieces = 0
        async for event in program.astream(message=message):
            pieces += isinstance(event, tf.FieldPiece)
            if isinstance(event, tf.Finished):
                print(f"{message}\n  -> {event.prediction.reply!r} ({pieces} pieces)")

    await asyncio.gather(*(answer(message) for message in MESSAGES))


def main(model, folder):
    lm = tf.LM(model, max_concurrency=4, num_retries=2)
    tf.configure(lm=lm, cache=tf.Cache(folder / "answers.sqlite"))
    program = Reply()
    with tf.track_usage() as meter:
        asyncio.run(serve(program))
    print(f"first:  {meter.usage.calls} calls, {meter.usage.hits} from the cache, latency {meter.latency()}")

    tf.settings.cache.export(folder / "answers.jsonl")  # what a test suite replays, with no model at all
    replayed = tf.Cache(None, mode="replay")
    replayed.load(folder / "answers.jsonl")
    with tf.context(cache=replayed), tf.track_usage() as meter:
        for message in MESSAGES:
            program(message=message)
    print(f"replay: {meter.usage.calls} calls, {meter.usage.hits} from the cache")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        main(sys.argv[1] if len(sys.argv) > 1 else "local/smollm2", Path(made))

"""Slots and threads of the embedded model: seconds a call, for one prompt and for two prompts in turn.

    python bench/slots.py

Each row is a fresh process: 24 short calls behind a prefix of about 250 tokens, 8 in flight, greedy.
"""

import subprocess
import sys

PROBE = """
import sys, time
import tuneful as tf
slots, threads = int(sys.argv[1]), int(sys.argv[2]) or None
lm = tf.LM("local/smollm2", slots=slots, threads=threads, max_tokens=8)
steps = [tf.Predict(tf.Signature("message -> label", text * 30)) for text in ("Sort the message. ", "Name the thing. ")]
def run(program_of):
    import asyncio
    async def all_of_them():
        gate = asyncio.Semaphore(8)
        async def one(i):
            async with gate:
                await program_of(i).using(lm=lm).acall(message=f"where is my parcel number {i}, with the {i} lamps?")
        await asyncio.gather(*(one(i) for i in range(24)))
    asyncio.run(all_of_them())
steps[0](message="x", lm=lm)
figures = []
for program_of in (lambda i: steps[0], lambda i: steps[i % 2]):
    with tf.track_usage() as used:
        begun = time.perf_counter()
        run(program_of)
        seconds = time.perf_counter() - begun
    figures += [seconds / 24, used.usage.cached_tokens / used.usage.prompt_tokens]
print(*figures)
"""


def main():
    print(f"{'slots':>5} {'threads':>8} {'one prompt':>16} {'cached':>7} {'two in turn':>16} {'cached':>7}")
    for slots, threads in ((1, 0), (2, 0), (4, 0), (1, 1), (1, 2)):
        done = subprocess.run(
            [sys.executable, "-c", PROBE, str(slots), str(threads)], capture_output=True, text=True, check=True
        )
        one, cached, two, cached_two = map(float, done.stdout.split())
        print(f"{slots:5} {threads or 'default':>8} {one:12.3f} s/c {cached:7.0%} {two:12.3f} s/c {cached_two:7.0%}")


if __name__ == "__main__":
    main()

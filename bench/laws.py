"""Law 4 at length: how often a teleprompter takes noise for a gain, and how often it finds one that is there.

python bench/laws.py [--runs 200] [--only random] [--candidates 8] [--seconds 180]

Teleprompters have their default sizes; `--candidates` makes all of them search through about as many. Every run is a
compile on a simulated model. Noise: nothing helps, base 50 %, a fifth of the chance is the row's own. Gain: showing any
demo adds 15 points, and so does a phrase that one of three proposals is. 60 rows to search on, and 200 held out, as by
default from 400 rows on; for noise 40 and 60, since its rate does not depend on their number.
"""

import argparse
import re
import sys
import time

import tuneful as tf
from tuneful.evaluate.statistics import mean_interval
from tuneful.testing import Landscape, ScriptedLM, SimulatedLM

QA = tf.Predict("question -> answer")


def rows(n, start=0):
    return [tf.Example(question=f"q{i}", answer=f"a{i}").with_inputs("question") for i in range(start, start + n)]


def exact(example, prediction, _trace=None):
    return example.answer == prediction.answer


def by_number(texts):
    return [[float(text.rsplit("q", 1)[-1]), 1.0] for text in texts]


HELPS = "Be exact."


def written(request):
    """Write what is asked for, in other words each time: what helps, in one sample of three."""
    number = request.sampling.rollout_id
    text = f"{HELPS if number % 3 == 1 else 'Go on.'} Attempt {number}."
    asked = re.findall(r"^\[\[ ## (\w+) ## \]\]\n\{", request.messages[0].text, re.MULTILINE)
    advice = f'{{"program": "{text}"}}'  # by the name of a step
    return "\n\n".join(f"[[ ## {name} ## ]]\n{advice if name == 'advice' else text}" for name in asked)


def teleprompters(n):
    """Return each teleprompter by its name: of default size, or with about `n` candidates."""
    writer = ScriptedLM(written)

    def size(**arguments):
        return arguments if n else {}

    random = size(num_candidate_programs=n)
    return {
        "BootstrapFewShot": tf.BootstrapFewShot(metric=exact),
        "BootstrapFewShotWithRandomSearch": tf.BootstrapFewShotWithRandomSearch(metric=exact, **random),
        "BootstrapFewShotWithOptuna": tf.BootstrapFewShotWithOptuna(metric=exact, **random),
        "KNNFewShot": tf.KNNFewShot(k=4, vectorizer=by_number, metric=exact),
        "COPRO": tf.COPRO(writer, exact, **size(breadth=max(2, n // 3), depth=3)),
        "AutoPrompt": tf.AutoPrompt(exact, writer, **size(breadth=max(2, n // 2), depth=2)),
        "InferRules": tf.InferRules(exact, prompt_model=writer, max_labeled_demos=0, **size(num_candidates=n)),
        "MIPROv2": tf.MIPROv2(exact, writer, **size(num_candidates=6, num_trials=n)),
        "SIMBA": tf.SIMBA(
            metric=exact, prompt_model=writer, **size(bsize=20, num_candidates=4, max_steps=max(1, n // 4))
        ),
        "GEPA": tf.GEPA(exact, reflection_lm=writer, **size(max_metric_calls=20 * n)),
        "Tune": tf.Tune(exact, prompt_model=writer, adapters=(), embedder=None, **size(num_candidates=n)),
    }


def changed(teleprompter, landscape, n_search, n_held_out, seed):
    """Say whether a compile returned something other than the original."""
    search, held_out = rows(n_search), rows(n_held_out, start=500)
    with tf.context(lm=SimulatedLM([*search, *held_out], landscape), num_threads=64):
        return teleprompter.compile(QA, trainset=search, valset=held_out, seed=seed).report.improved


def main():
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=200)
    asked.add_argument("--only", default="", help="teleprompters whose name contains this")
    asked.add_argument("--candidates", type=int, default=0, help="of each; 0: its default size")
    asked.add_argument("--skip", choices=["noise", "gain"])
    asked.add_argument("--first", type=int, default=0, help="seed of the first run (default 0)")
    asked.add_argument("--seconds", type=float, default=float("inf"), help="begin no run of a teleprompter after these")
    given = asked.parse_args()
    print(f"{given.runs} runs, {given.candidates or 'default'} candidates\n")
    print("| | original kept on noise | gain found | s |\n|---|--:|--:|--:|")
    for name, teleprompter in teleprompters(given.candidates).items():
        if given.only.lower() not in name.lower():
            continue
        begun = time.perf_counter()
        kept, found = [], []
        for seed in range(given.first, given.first + given.runs):
            if time.perf_counter() - begun > given.seconds:
                break
            if given.skip != "noise":
                flat = Landscape(base=0.5, difficulty=0.2, seed=seed)
                kept.append(float(not changed(teleprompter, flat, 40, 60, seed)))
            if given.skip != "gain":
                hill = Landscape(base=0.5, any_demo=0.15, instructions={HELPS: 0.15}, seed=seed)
                found.append(float(changed(teleprompter, hill, 60, 200, seed)))
            if seed % 20 == 19:
                sys.stderr.write(f"{name}: {seed + 1} runs, noise {shown(kept)}, gain {shown(found)}\n")
        seconds = time.perf_counter() - begun
        print(f"| {name} | {shown(kept)} | {shown(found)} | {seconds:.0f} |", flush=True)


def shown(hits):
    if not hits:
        return ""
    low, high = mean_interval(hits)
    return f"{100 * sum(hits) / len(hits):.1f} % of {len(hits)} ({100 * low:.0f} to {100 * high:.0f})"


if __name__ == "__main__":
    main()

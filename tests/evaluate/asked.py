"""What is evaluated: questions `q0`, `q1`, ... whose answers are `a0`, `a1`, ..., and a model that echoes the number."""

import tuneful as tf

QA = tf.Predict("question -> answer")


def make_rows(n):
    return [tf.Example(question=f"q{i}", answer=f"a{i}").with_inputs("question") for i in range(n)]


def exact(example, prediction, trace=None):
    return example.answer == prediction.answer


def echo(request):
    return f"[[ ## answer ## ]] a{request.messages[-1].text.rsplit('q', 1)[1].split()[0]}"

"""The three programs that define the paradigm, each as short as its idea."""

import tuneful as tf

tf.configure(lm=tf.LM("local/smollm2", max_tokens=80))

# 1. A step, declared by what goes in and what comes out.
answer = tf.Predict("question -> answer")

# 2. The same step, with reasoning before the answer.
think = tf.ChainOfThought("question -> answer")


# 3. Three chains of thought, compared by a further step.
class Compare(tf.Module):
    def __init__(self):
        self.attempt = tf.ChainOfThought("question -> answer", n=3)
        self.choose = tf.Predict("question, attempts: list[str] -> answer")

    def forward(self, question):
        several = self.attempt(question=question).completions
        return self.choose(question=question, attempts=several.answer)


for program in (answer, think, Compare()):
    print(type(program).__name__, "->", program(question="What is the capital of France?"))

"""A multi-hop program: search, read, search again with what was read, answer. Compiled under a budget."""

import tuneful as tf

CORPUS = [
    "The Sognefjord is the longest fjord of Norway. It lies in the county of Vestland.",
    "Vestland is a county of Norway. Its administrative centre is the city of Bergen.",
    "Bergen is a city on the west coast of Norway, known for the wharf of Bryggen.",
    "Lake Saimaa is the largest lake of Finland. It lies in the region of South Karelia.",
    "South Karelia is a region of Finland. Its capital is the city of Lappeenranta.",
    "Mount Hekla is a volcano in the south of Iceland, near the village of Hella.",
    "The Gota canal crosses Sweden. It was designed by Baltzar von Platen.",
    "Baltzar von Platen was a Swedish count, born on the island of Rugen.",
]
QUESTIONS = {
    "What is the administrative centre of the county of the Sognefjord?": "Bergen",
    "What is the capital of the region of Lake Saimaa?": "Lappeenranta",
    "Which village is near the volcano Hekla?": "Hella",
    "On which island was the designer of the Gota canal born?": "Rugen",
    "For which wharf is the city of Bergen known?": "Bryggen",
    "In which country is South Karelia?": "Finland",
}

tf.configure(lm=tf.LM("local/smollm2", max_tokens=120), rm=tf.BM25(CORPUS))


class MultiHop(tf.Module):  # define-by-run, like an nn.Module
    def __init__(self):
        self.k = tf.Choice([1, 3, 5], default=3)  # the user's own number is a parameter
        self.query = tf.ChainOfThought("context: list[str], question -> query")
        self.retrieve = tf.Retrieve()
        self.answer = tf.ChainOfThought("context: list[str], question -> answer")

    def forward(self, question):  # plain Python: loops, exceptions, print, a debugger
        context = []
        for _ in range(2):
            query = self.query(context=context, question=question).query
            context += self.retrieve(query, k=self.k).passages
        return self.answer(context=context, question=question)


def metric(example, prediction, trace=None):  # bool, number, tf.Score(value, feedback=...), or another program
    return tf.metrics.answer_exact_match(example, prediction)


rows = [tf.Example(question=q, answer=a).with_inputs("question") for q, a in QUESTIONS.items()]
train, dev = rows[:3], rows[3:]

teleprompter = tf.BootstrapFewShot(metric=metric)
compiled = teleprompter.compile(MultiHop(), trainset=train, valset=dev, budget=tf.Budget(usd=2, seconds=900))
print(compiled.report)  # baseline vs best with intervals, cost, stop reason, verdict
compiled.save("multihop.json")
MultiHop().load("multihop.json")
result = tf.Evaluate(devset=dev, metric=metric)(compiled)  # result.score, result.interval, result.rows
print(result)
print(result.rows[0].prediction)

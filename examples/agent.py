"""An agent with two tools over a real database: it looks things up, calculates, and gives a typed answer."""

import sqlite3

import tuneful as tf

STOCK = [("pen", 12, 1.5), ("ink", 0, 4.0), ("notebook", 30, 2.25)]


def look_up(item: str) -> dict:
    """Return how many of an item are in stock, and its price in euros."""
    with sqlite3.connect(":memory:") as shop:
        shop.execute("CREATE TABLE stock (item TEXT, count INTEGER, price REAL)")
        shop.executemany("INSERT INTO stock VALUES (?, ?, ?)", STOCK)
        row = shop.execute("SELECT item, count, price FROM stock WHERE item = ?", [item]).fetchone()
    if row is None:
        raise LookupError(f"we do not sell {item!r}; we sell: {', '.join(name for name, *_ in STOCK)}")
    return dict(zip(("item", "count", "price"), row, strict=True))


def multiply(a: float, b: float) -> float:
    """Multiply two numbers."""
    return a * b


class Order(tf.Signature):
    """Find out whether an order can be filled, and what it costs in euros."""

    order: str = tf.InputField()
    possible: bool = tf.OutputField()
    cost: float = tf.OutputField(ge=0)


tf.configure(lm=tf.LM("local/smollm2", max_tokens=120))

agent = tf.ReAct(Order, tools=[look_up, multiply], max_iters=2)
for order in ("4 pens", "1 bottle of ink"):
    found = agent(order=order)
    print(f"{order}: possible={found.possible}, cost={found.cost}")
    print(found.trajectory)
    print(f"({found.trace.usage.calls} calls, {found.trace.noted or 'nothing went wrong'})\n")

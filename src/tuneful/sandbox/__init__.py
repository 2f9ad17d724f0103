"""Running code that a model wrote: one protocol, and the sandboxes that keep it."""

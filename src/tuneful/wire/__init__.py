"""What goes to and comes from a model: messages, requests, responses, usage. Pure data, no I/O."""

"""WHAT a step is: signatures, fields, value types, examples, predictions. Pure data, no I/O."""

"""The main job: a two-step program, compiled and evaluated on the embedded model."""

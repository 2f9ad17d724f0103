"""Programs: parameters, modules, the leaf that asks a model, traces, ambient state, the sync/async bridge, saving."""

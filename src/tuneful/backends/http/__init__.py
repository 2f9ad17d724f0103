"""Models over HTTP: a provider, its layout, the transport."""

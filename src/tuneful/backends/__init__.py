"""Request -> Response. The only code that talks to models: providers, and wrappers that are backends themselves."""

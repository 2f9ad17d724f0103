"""The command line. Thin: it parses arguments and calls the package."""

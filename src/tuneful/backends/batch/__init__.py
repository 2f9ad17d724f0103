"""The provider's batch API as a backend."""

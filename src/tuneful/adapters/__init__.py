"""Signature + demos + inputs -> Request; Response -> fields. Pure both ways: nothing here does I/O."""

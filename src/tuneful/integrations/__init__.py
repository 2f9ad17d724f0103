"""Bridges to other libraries, each optional and a leaf: nothing in the package imports them."""

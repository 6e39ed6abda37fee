"""A path in, page contents out."""

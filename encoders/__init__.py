"""A page or a query in, vectors out."""

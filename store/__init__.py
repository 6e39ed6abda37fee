"""Points in, candidates out: Qdrant, embedded or as a server, and the page files beside it."""

"""A query and candidates in, one score each out. The members arrive with the second stage."""

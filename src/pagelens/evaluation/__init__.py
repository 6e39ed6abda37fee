"""Does it work, and does the reranker pay: questions whose answers are known, asked of a library.

It stands on `Library`, and nothing that ingests or searches knows it. `evaluate` is the main path: `asking`
asks every question once, `measures` and `significance` compare the stages, `second_stage` looks at the
rerankers out of fold, `verdict` decides, `report` shows it.
"""

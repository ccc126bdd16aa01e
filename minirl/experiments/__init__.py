"""One file per reproduction: `SOURCES`, `plan(seeds)`, `run(arm, seed)` and `claims(runs)`."""

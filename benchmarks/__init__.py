"""
Programs that measure musicgen; start each from the repository's root with `python -m benchmarks.NAME`.

    batch      memory and time that a large batch needs before its first take
    engine     accuracy, speed and memory of the local engine, compared with transformers
    gallery    how long a large gallery takes to make and to open in a browser
    service    throughput and latency of `musicgen serve`, compared with a plain FastAPI service
    startup    how soon `--help`, `list` and shell completion answer
    store      queries and writes on a store of a million takes, compared with SQLite, jq and wc
    takes      takes a minute with `batch`, compared with a shell loop around `generate`

`--help` shows the options of each. `processes` is shared; `engine_worker` and `service_reference` are started by
`engine` and `service`. docs/benchmarks.md has the results.
"""

"""Real faults: workers, brokers, Redis, input and output are broken in mid-stream; every change must be there once.

`make faults` (or `pytest tests/faults --faults full`) runs every case with 100,000 events and prints a table;
`--faults-table FILE` writes it as Markdown too. Plain `pytest` runs the short form: the cases marked `short=True`, at
least one of each kind, with fewer events; `--deep` runs every case, with more. `--seed N` chooses the events and the
instants of the faults.

How a case is written
    @pytest.mark.fault_case("workers", "SIGKILL after 0.1–1 s", short=True)
    def test_…(case: FaultCase) -> None:
        case.begin()                                    # topics, reader, and all events in the inputs
        for _ in range(case.choose(full=10, short=3)):
            with case.worker() as worker:               # a worker process; its log goes into case.log
                case.until_batches(1, worker)             # it has published that many micro-batches more
                case.assert_mid_stream()                # enough records are still to come
                worker.kill()
                case.injected()                         # one fault more, ended now
        case.finish()                                   # a worker without faults runs to the end of the log
        case.check()                                    # verdict, row of the table, and zeros or a failure

The fixture `case` is on the session's one broker and on a Redis of the test's own. Cases with services of their own
take the fixture `make_case` instead:
    with make_case(servers, redis_url, reader_servers=…, replication_factor=3) as case: …
`reader_servers` is what this process itself uses to reach the brokers, where the workers' way leads through a proxy.

That a fault was felt is waited for: `case.until_all_fail(worker, error="TimeoutError")` returns once every partition
has been taken over again after such an error.

The files
    case.py      FaultCase: begin, inject, finish, check
    workload.py  events, how they are spread over the inputs, and what replay makes of them
    reader.py    a read_committed consumer that runs from before the first event to the end of the case
    progress.py  how far Kafka's committed offsets and Redis say a group is
    verdict.py   lost, doubled, chain breaks and whatever else differs, computed from what the reader saw
    table.py     the rows, as text and as Markdown

What a case proves
    Output by the event clock equals replay's, ids included, up to the last midnight of each partition. *lost* counts
    expected changes, triggers and dead letters that the reader never saw, and customers whose stored aggregates differ
    from replay's; *doubled* counts changes, triggers and dead letters seen more than once; *chain breaks* counts gaps
    in a customer's sequence and values of `previous` that are not the last `current`. Anything else that differs
    (a change that replay does not have, a published standing that is not the stored one) fails the case as well.
    *faults injected* counts only what is known to have happened in mid-stream. *time to recover* is, from the end of
    the last fault, how long it took until every partition with records to come had published a batch made after it; it
    is never asserted.
"""

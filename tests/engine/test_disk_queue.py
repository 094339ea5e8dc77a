"""What waits for the disk tier's worker."""

from prfaas.engine.disk_queue import Job, Queue
from prfaas.engine.disk_store import Entry
from tests.engine.disk_rig import chain, kv, state


def test_loads_come_before_stores() -> None:
    queue = Queue(limit_pages=10)
    store, load = Job([kv("a")], loads=False), Job([kv("b")], loads=True)
    assert queue.put(store)
    assert queue.first(0) is store
    assert queue.put(load)
    assert queue.first(0) is load
    queue.remove(load)
    assert queue.first(0) is store
    queue.remove(store)
    assert queue.first(0) is None


def test_a_job_of_any_size_is_taken_until_too_much_waits() -> None:
    queue = Queue(limit_pages=4)
    large = Job([*chain("a", 3), state("a2", 7, 8)], loads=False)
    assert queue.put(large)
    assert not queue.put(Job([kv("b")], loads=False))
    load = Job([kv("b")], loads=True)
    assert queue.put(load)
    queue.remove(load)
    queue.remove(large)
    assert queue.put(Job([kv("b")], loads=False))


def test_a_closed_queue_gives_what_it_has_and_takes_nothing() -> None:
    queue = Queue(limit_pages=4)
    job = Job([kv("a")], loads=False)
    assert queue.put(job)
    queue.close()
    assert queue.closed
    assert not queue.put(Job([kv("b")], loads=False))
    assert queue.first(60) is job
    queue.remove(job)
    assert queue.first(60) is None


def test_what_needs_a_failed_entry_is_not_tried() -> None:
    tried: list[Entry] = []

    def fails_at_2(entry: Entry) -> bool:
        tried.append(entry)
        return entry != blocks[2]

    blocks = chain("a", 5)
    job = Job([*blocks, state("a1"), state("a4")], loads=True)
    while not job.ended:
        job.step(fails_at_2)
    assert job.done().ok == (True, True, False, False, False, True, False)
    assert tried == [*blocks[:3], state("a1")]


def test_a_failed_snapshot_harms_no_block() -> None:
    blocks = chain("a", 2)
    job = Job([blocks[0], state("a0"), blocks[1]], loads=True)
    while not job.ended:
        job.step(lambda entry: entry.part == "kv")
    assert job.done().ok == (True, False, True)


def test_a_job_that_is_given_up_says_what_was_done() -> None:
    job = Job(chain("a", 3), loads=False)
    job.step(lambda entry: entry.part == "kv")
    done = job.done()
    assert (done.entries, done.loaded, done.ok) == (job.entries, False, (True, False, False))
    assert not job.ended

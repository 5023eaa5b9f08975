"""A stream is shared out between processes and goes on from any position: each line occurs once in an epoch."""

import json
from collections import Counter
from contextlib import contextmanager

import pytest
from torch.utils.data import DataLoader

from birthgpt.data import shards, sources
from birthgpt.data.batching import BatchSettings
from birthgpt.data.corpus import load_corpus
from birthgpt.data.objectives import IGNORE, LanguageModeling
from birthgpt.data.streaming import StreamedBatches, share_of_process

LINES = [f"Person {number}. Born in {'x' * (number % 11)} {number}." for number in range(150)]


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> str:
    """A file of 150 lines, in shards of about 300 bytes."""
    monkeypatch.setattr(shards, "MIN_SHARD_BYTES", 300)
    (tmp_path / "lines.txt").write_text("\n".join(LINES))
    return str(tmp_path / "lines.txt")


def streamed(source: str, tokenizer, *, process: int = 0, processes: int = 1, steps: int = 1, **given):
    """The batches of a process."""
    given = {"buffer_size": 16, "settings": BatchSettings(tokens_per_batch=200 * processes * steps)} | given
    return StreamedBatches(
        share_of_process(load_corpus(source, streaming=True), process, processes),
        LanguageModeling(tokenizer, 64),
        tokenizer.pad_token_id,
        seed=0,
        num_micro_batches=processes * steps,
        num_processes=processes,
        **given,
    )


def lines_of(batches) -> list[int]:
    return [line for batch in batches for line in batch["line_ids"].tolist()]


@contextmanager
def counting_lines(monkeypatch):
    """The numbers of the lines that are read from files."""
    read = []

    def text_rows(path, lines, before):
        for where, row in sources._text_rows(path, lines, before):
            read.append(int(where.rsplit(" ")[-1]) - 1)
            yield where, row

    with monkeypatch.context() as patch:
        patch.setitem(sources.LINE_READERS, ".txt", text_rows)
        yield read


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("steps", [1, 4])
def test_processes_have_each_line_once_between_them(characters, corpus, processes, steps):
    shares = [
        list(streamed(corpus, characters, process=process, processes=processes, steps=steps))
        for process in range(processes)
    ]
    assert sorted(lines_of(batch for share in shares for batch in share)) == list(range(150))
    assert all(len(share) % steps == 0 for share in shares)


def test_a_process_reads_its_own_shards(characters, corpus, monkeypatch):
    reads = []
    for process in range(2):
        with counting_lines(monkeypatch) as read:
            list(streamed(corpus, characters, process=process, processes=2))
        reads.append(read)
    assert sorted(reads[0] + reads[1]) == list(range(150))
    assert min(map(len, reads)) > 50


def test_a_source_with_few_shards_is_shared_out_by_lines_and_the_log_says_so(characters, tmp_path, caplog):
    (tmp_path / "few.txt").write_text("\n".join(LINES))
    shares = [lines_of(streamed(str(tmp_path / "few.txt"), characters, process=p, processes=2)) for p in range(2)]
    assert [sorted(share) for share in shares] == [list(range(0, 150, 2)), list(range(1, 150, 2))]
    assert [record.message for record in caplog.records] == [
        "the corpus has fewer shards (1) than there are processes (2): each process reads all lines, and keeps its own"
    ]


@pytest.mark.parametrize("cut", [True, False], ids=["shards", "lines"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_stream_goes_on_from_every_position_as_if_it_had_not_stopped(characters, corpus, monkeypatch, cut, workers):
    if not cut:
        monkeypatch.setattr(shards, "MIN_SHARD_BYTES", 1 << 20)
    for process in range(2):
        given = {"process": process, "processes": 2, "steps": 2}
        whole = list(streamed(corpus, characters, **given).read())
        for stop in range(0, len(whole), 5):
            position = json.loads(json.dumps(whole[stop][1]))
            rest = streamed(corpus, characters, **given)
            loader = DataLoader(Reading(rest, position), batch_size=None, num_workers=workers)
            again = [batch["input_ids"].tolist() for batch in loader]
            assert again == [batch["input_ids"].tolist() for batch, _ in whole[stop + 1 :]]
            if workers:
                break


class Reading(StreamedBatches):
    """The rest of a stream."""

    def __init__(self, batches: StreamedBatches, position: dict):
        vars(self).update(vars(batches))
        self.start = position

    def __iter__(self):
        return (batch for batch, _ in self.read(self.start))


def test_an_epoch_begins_anew_after_one_that_went_on(characters, corpus):
    batches = streamed(corpus, characters)
    whole = list(batches.read())
    list(batches.read(whole[7][1]))
    assert sorted(lines_of(batches)) == list(range(150))


def test_a_stream_that_goes_on_does_not_read_what_was_read(characters, corpus, monkeypatch):
    whole = list(streamed(corpus, characters).read())
    longest_shard = max(Counter(shard_of(line, corpus) for line in range(150)).values())
    for stop in range(0, len(whole) - 1, 3):
        before = {line for batch, _ in whole[: stop + 1] for line in batch["line_ids"].tolist()}
        with counting_lines(monkeypatch) as read:
            rest = lines_of(batch for batch, _ in streamed(corpus, characters).read(whole[stop][1]))
        assert sorted([*before, *rest]) == list(range(150))
        # only the buffer, which is planned again, and the beginning of its shard
        assert len(read) - len(rest) < 16 + longest_shard
        assert sorted(set(read)) == list(range(min(read), 150))


def shard_of(line: int, source: str) -> int:
    """The index of the shard of a line."""
    found = load_corpus(source, streaming=True)._ex_iterable.kwargs["shards"]
    return max(index for index, shard in enumerate(found) if shard.rows <= line)


def test_a_batch_of_a_process_has_its_part_of_the_tokens(characters, corpus):
    for batch in streamed(corpus, characters, processes=2, settings=BatchSettings(tokens_per_batch=600)):
        assert batch["input_ids"].numel() <= 300


def test_an_update_with_too_few_lines_is_filled_with_batches_without_targets(characters, tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(LINES[:2]))
    batches = list(streamed(str(tmp_path / "lines.txt"), characters, steps=5))
    assert sorted(lines_of(batches)) == [0, 1]
    assert [bool((batch["shift_labels"] != IGNORE).any()) for batch in batches] == [True, True, False, False, False]


def test_a_buffer_of_less_than_a_batch_is_reported_once(characters, corpus, caplog):
    list(streamed(corpus, characters, settings=BatchSettings(tokens_per_batch=10_000)))
    (record,) = caplog.records
    assert record.message.startswith("stream_buffer_size=16 lines are only ")
    assert record.message.endswith(" tokens, and a batch of a process has 10000: raise it")

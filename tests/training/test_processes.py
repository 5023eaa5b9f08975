"""Work that processes share out: all of them have all results, and a fault of one is raised on all."""

from accelerate import Accelerator
from processes import in_two_processes

from birthgpt.training.processes import shared_out


def square(value: int) -> int:
    """The square; negative numbers are refused."""
    if value < 0:
        raise ValueError(f"{value} is negative")
    return value * value


def results_of_cases() -> list:
    accelerator = Accelerator(cpu=True)
    rank, found = accelerator.process_index, []
    for items in ([1, 2, 3], [5], [], [1, -2, 3], [1] * (2 + rank)):
        try:
            found.append(shared_out(square, items, accelerator))
        except ValueError as error:
            found.append(str(error))
    return found


def test_work_is_shared_out_and_faults_are_raised_by_all_processes():
    main, other = in_two_processes(results_of_cases)
    assert main[:3] == other[:3] == [[1, 4, 9], [25], []]
    assert (main[3], other[3]) == ("process 1: -2 is negative", "-2 is negative")
    assert main[4] == "process 1 finds other files, or files of another size, than process 0"
    assert other[4] == "process 0 finds other files, or files of another size, than process 1"


def test_one_process_does_all_the_work():
    assert shared_out(square, [1, 2], Accelerator(cpu=True)) == [1, 4]

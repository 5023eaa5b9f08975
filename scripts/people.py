"""Invent people: write their biographies, questions about where they were born, and questions about people held out.

python scripts/people.py --output_dir runs/people --people 1000 --held_out 200
"""

from birthgpt.commands.command_line import run_script
from birthgpt.commands.people import PeopleArguments, make_people

if __name__ == "__main__":
    run_script(make_people, (PeopleArguments,), __doc__, several_processes=False)

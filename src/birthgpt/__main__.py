"""`python -m birthgpt`, which `accelerate launch -m birthgpt` needs."""

from birthgpt.cli import main

if __name__ == "__main__":
    main()
